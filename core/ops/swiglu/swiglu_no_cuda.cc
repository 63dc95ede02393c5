// swiglu.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/swiglu/swiglu_cuda.h"

namespace strake::cuda {

template <typename T>
absl::Status SwigluForward(CudaStream, const T*, int64_t, int64_t, T*) {
  return NoCuda();
}

template <typename T>
absl::Status SwigluBackward(CudaStream, const T*, const T*, int64_t, int64_t, T*) {
  return NoCuda();
}

template absl::Status SwigluForward<float>(CudaStream, const float*, int64_t, int64_t, float*);
template absl::Status SwigluForward<Bf16>(CudaStream, const Bf16*, int64_t, int64_t, Bf16*);
template absl::Status SwigluBackward<float>(CudaStream, const float*, const float*, int64_t,
                                            int64_t, float*);
template absl::Status SwigluBackward<Bf16>(CudaStream, const Bf16*, const Bf16*, int64_t, int64_t,
                                           Bf16*);

}  // namespace strake::cuda
