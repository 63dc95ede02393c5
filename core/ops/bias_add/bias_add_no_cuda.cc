// bias_add.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/bias_add/bias_add_cuda.h"

namespace strake::cuda {

template <typename T>
absl::Status BiasAddForward(CudaStream, const T*, const T*, int64_t, int64_t, T*) {
  return NoCuda();
}

int64_t BiasAddBackwardWorkspaceSize(int64_t, int64_t) { return 0; }

template <typename T>
absl::Status BiasAddBackward(CudaStream, const T*, int64_t, int64_t, float*, float*) {
  return NoCuda();
}

template absl::Status BiasAddForward<float>(CudaStream, const float*, const float*, int64_t,
                                            int64_t, float*);
template absl::Status BiasAddForward<Bf16>(CudaStream, const Bf16*, const Bf16*, int64_t, int64_t,
                                           Bf16*);
template absl::Status BiasAddBackward<float>(CudaStream, const float*, int64_t, int64_t, float*,
                                             float*);
template absl::Status BiasAddBackward<Bf16>(CudaStream, const Bf16*, int64_t, int64_t, float*,
                                            float*);

}  // namespace strake::cuda
