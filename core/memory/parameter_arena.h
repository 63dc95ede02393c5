// ParameterArena: one index space for all parameters of a model.
#ifndef STRAKE_CORE_MEMORY_PARAMETER_ARENA_H_
#define STRAKE_CORE_MEMORY_PARAMETER_ARENA_H_

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_buffer.h"

namespace strake {

// One tensor of Hugging Face's layout within a parameter: a fused matrix has several, side by side.
struct ParameterSegment {
  std::string name;     // Hugging Face's, for example "model.layers.0.self_attn.q_proj.weight"
  int64_t columns = 0;  // of the parameter's last dimension
  // True when Hugging Face stores it [out, in], the transpose of our [in, out].
  bool transposed = false;
};

// Initial weights: mean + stddev * (standard normal).
struct NormalInit {
  double mean = 0;
  double stddev = 0;
};

// A weight and its gradient.
struct Parameter {
  std::vector<ParameterSegment> segments;  // their columns add up to the last dimension
  Shape shape;
  bool weight_decay = false;  // matrices and embeddings, not norms and biases
  NormalInit init;
  int64_t offset = 0;  // in elements, in every array over the index space
  Tensor value;
  Tensor grad;  // f32 for bf16 values, else the values' dtype; undefined without gradients

  const std::string& name() const { return segments.front().name; }
  int64_t num_elements() const { return NumElements(shape); }
};

// Parameters are added in forward order, so that gradients become ready from the index space's end
// to its start, and each begins at a multiple of 64 elements; the gaps hold zeros in every array.
// Values, gradients and optimizer state are parallel arrays over the same indices.
class ParameterArena {
 public:
  static constexpr int64_t kAlignmentElements = 64;

  // Before Allocate(). The address stays valid for the arena's lifetime.
  Parameter* Add(std::vector<ParameterSegment> segments, Shape shape, bool weight_decay,
                 NormalInit init = {});

  // Zeroed values, and gradients too if asked for; sets each parameter's `value` and `grad`.
  // ResourceExhausted when there is no memory.
  absl::Status Allocate(DType dtype, bool with_gradients);

  // Parameters with shapes alone, for the dry run: data is null.
  void AllocateDryRun(DType dtype);

  // Size of the index space, gaps included.
  int64_t num_elements() const { return num_elements_; }
  // What is trained: without the gaps.
  int64_t num_parameters() const;

  const std::deque<Parameter>& parameters() const { return parameters_; }
  std::deque<Parameter>& parameters() { return parameters_; }

  const Tensor& values() const { return values_; }  // [num_elements]
  const Tensor& grads() const { return grads_; }    // [num_elements]
  void ZeroGrads();

 private:
  void SetTensors(void* values, void* grads, DType dtype, bool with_gradients);

  std::deque<Parameter> parameters_;
  int64_t num_elements_ = 0;
  HostMemory value_memory_, grad_memory_;
  Tensor values_, grads_;
};

}  // namespace strake

#endif  // STRAKE_CORE_MEMORY_PARAMETER_ARENA_H_
