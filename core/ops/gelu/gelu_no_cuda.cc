// gelu.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/gelu/gelu_cuda.h"

namespace strake::cuda {

template <typename T>
absl::Status GeluForward(CudaStream, const T*, int64_t, T*) {
  return NoCuda();
}

template <typename T>
absl::Status GeluBackward(CudaStream, const T*, const T*, int64_t, T*) {
  return NoCuda();
}

template absl::Status GeluForward<float>(CudaStream, const float*, int64_t, float*);
template absl::Status GeluForward<Bf16>(CudaStream, const Bf16*, int64_t, Bf16*);
template absl::Status GeluBackward<float>(CudaStream, const float*, const float*, int64_t, float*);
template absl::Status GeluBackward<Bf16>(CudaStream, const Bf16*, const Bf16*, int64_t, Bf16*);

}  // namespace strake::cuda
