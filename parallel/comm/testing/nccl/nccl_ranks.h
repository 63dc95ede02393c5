// Ranks that are threads, each with its own world that meets the others over TCP. NCCL is the
// contract library, and the ranks share the emulated GPUs.
#ifndef STRAKE_PARALLEL_COMM_TESTING_NCCL_NCCL_RANKS_H_
#define STRAKE_PARALLEL_COMM_TESTING_NCCL_NCCL_RANKS_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "core/base/dtype.h"
#include "core/cuda/stream.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"

namespace strake::testing {

// Calls `body` on each rank of a group of `size`, and expects that NCCL was not misused.
void RunOnNccl(int size, const CommunicatorOptions& options,
               const std::function<void(Communicator&)>& body);

// The same for groups of each size, with a stream of each rank's own, which is bound.
void RunOnNcclGpus(const CommunicatorOptions& options, const std::vector<int>& sizes,
                   const std::function<void(Communicator&, CudaStream)>& body);

// A tensor on the GPU, filled on the bound stream; made within RunOnNcclGpus().
class NcclGpuTensor {
 public:
  NcclGpuTensor(DType dtype, int64_t n);
  NcclGpuTensor(DType dtype, int64_t n, const std::function<double(int64_t)>& value);
  operator const Tensor&() const { return tensor_; }  // NOLINT(google-explicit-constructor)
  const Tensor* operator->() const { return &tensor_; }

 private:
  Tensor tensor_;
};

// Waits for the stream.
void ExpectElements(Communicator& comm, CudaStream stream, const Tensor& x,
                    const std::function<double(int64_t)>& value);

}  // namespace strake::testing

#endif  // STRAKE_PARALLEL_COMM_TESTING_NCCL_NCCL_RANKS_H_
