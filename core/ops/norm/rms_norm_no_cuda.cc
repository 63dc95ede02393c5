// rms_norm.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/norm/rms_norm_cuda.h"

namespace strake::cuda {

template <typename T>
absl::Status RmsNormForward(CudaStream, const T*, const T*, const T*, int64_t, int64_t, float, T*,
                            T*, float*) {
  return NoCuda();
}

int64_t RmsNormBackwardWorkspaceSize(int64_t, int64_t) { return 0; }

template <typename T>
absl::Status RmsNormBackward(CudaStream, const T*, const T*, const T*, const float*, int64_t,
                             int64_t, bool, T*, float*, float*) {
  return NoCuda();
}

template absl::Status RmsNormForward<float>(CudaStream, const float*, const float*, const float*,
                                            int64_t, int64_t, float, float*, float*, float*);
template absl::Status RmsNormForward<Bf16>(CudaStream, const Bf16*, const Bf16*, const Bf16*,
                                           int64_t, int64_t, float, Bf16*, Bf16*, float*);
template absl::Status RmsNormBackward<float>(CudaStream, const float*, const float*, const float*,
                                             const float*, int64_t, int64_t, bool, float*, float*,
                                             float*);
template absl::Status RmsNormBackward<Bf16>(CudaStream, const Bf16*, const Bf16*, const Bf16*,
                                            const float*, int64_t, int64_t, bool, Bf16*, float*,
                                            float*);

}  // namespace strake::cuda
