// layer_norm.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/norm/layer_norm_cuda.h"

namespace strake::cuda {

template <typename T>
absl::Status LayerNormForward(CudaStream, const T*, const T*, const T*, const T*, int64_t, int64_t,
                              float, T*, T*, float*, float*) {
  return NoCuda();
}

int64_t LayerNormBackwardWorkspaceSize(int64_t, int64_t) { return 0; }

template <typename T>
absl::Status LayerNormBackward(CudaStream, const T*, const T*, const T*, const float*, const float*,
                               int64_t, int64_t, bool, T*, float*, float*, float*) {
  return NoCuda();
}

template absl::Status LayerNormForward<float>(CudaStream, const float*, const float*, const float*,
                                              const float*, int64_t, int64_t, float, float*, float*,
                                              float*, float*);
template absl::Status LayerNormForward<Bf16>(CudaStream, const Bf16*, const Bf16*, const Bf16*,
                                             const Bf16*, int64_t, int64_t, float, Bf16*, Bf16*,
                                             float*, float*);
template absl::Status LayerNormBackward<float>(CudaStream, const float*, const float*, const float*,
                                               const float*, const float*, int64_t, int64_t, bool,
                                               float*, float*, float*, float*);
template absl::Status LayerNormBackward<Bf16>(CudaStream, const Bf16*, const Bf16*, const Bf16*,
                                              const float*, const float*, int64_t, int64_t, bool,
                                              Bf16*, float*, float*, float*);

}  // namespace strake::cuda
