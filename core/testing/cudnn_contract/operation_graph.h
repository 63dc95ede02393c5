// Operations between tensors as cuDNN's backend API describes them: their rules, and what they
// compute.
#ifndef STRAKE_CORE_TESTING_CUDNN_CONTRACT_OPERATION_GRAPH_H_
#define STRAKE_CORE_TESTING_CUDNN_CONTRACT_OPERATION_GRAPH_H_

#include <cudnn.h>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/testing/cudnn_contract/descriptor.h"

namespace strake::testing {

inline constexpr int64_t kNoTensor = -1;

struct GraphTensor {
  int64_t uid;
  cudnnDataType_t dtype;
  std::vector<int64_t> dims, strides;
  int64_t alignment;
  bool is_virtual, by_value;
  // That of where each entry of the batch begins, in elements; then the batch's stride is not read.
  int64_t offsets = kNoTensor;

  int64_t num_elements() const;
  bool is_ragged() const { return offsets != kNoTensor; }
  // The dim of a ragged tensor whose length differs from entry to entry.
  int64_t ragged_dim() const { return strides[3] == 1 ? 2 : 3; }
  bool operator==(const GraphTensor&) const = default;
};

struct GraphOperation {
  cudnnBackendDescriptorType_t type;
  std::vector<int64_t> inputs;  // uids
  int64_t output;
  int mode = 0;      // of pointwise operations and reductions
  int64_t axis = 0;  // of CUDNN_POINTWISE_GEN_INDEX
  // Of a matmul of [m, k] and [k, n]: the tensors of each entry's own m, n and k.
  std::array<int64_t, 3> lengths = {kNoTensor, kNoTensor, kNoTensor};
};

// The strides of a row-major tensor without gaps.
std::vector<int64_t> PackedStrides(const std::vector<int64_t>& dims);

// Throws a CudnnError if the descriptor is no tensor, or no operation, that cuDNN accepts.
GraphTensor ReadTensor(const Descriptor& descriptor);
GraphOperation ReadOperation(const Descriptor& descriptor, std::map<int64_t, GraphTensor>* tensors);

class OperationGraph {
 public:
  // Throws a CudnnError if tensors and operations do not make a graph.
  explicit OperationGraph(const Descriptor& descriptor);

  // By uid, in ascending order.
  const std::map<int64_t, GraphTensor>& tensors() const { return tensors_; }
  // In an order in which each follows those that make its inputs.
  const std::vector<GraphOperation>& operations() const { return operations_; }

  // Computes all operations in f32. Rounds each tensor to its dtype, also those that exist only
  // within the graph. `addresses` has those of all others; `scalars` the numbers passed by value.
  // Rows of ragged tensors after an entry's length are neither read nor written. Returns what is
  // wrong with lengths and offsets, or nothing; then it computes nothing.
  std::string Run(const std::map<int64_t, void*>& addresses,
                  const std::map<int64_t, float>& scalars) const;

 private:
  void Order(std::vector<GraphOperation> operations);

  std::map<int64_t, GraphTensor> tensors_;
  std::vector<GraphOperation> operations_;
};

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUDNN_CONTRACT_OPERATION_GRAPH_H_
