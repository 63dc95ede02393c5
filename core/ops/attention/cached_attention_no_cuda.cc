// cached_attention.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/attention/cached_attention_cuda.h"

namespace strake::cuda {

int64_t CachedAttentionWorkspaceSize(const AttentionShape&, int64_t) { return 0; }

template <typename T>
absl::Status CachedAttentionForward(CudaStream, const T*, const AttentionShape&, int64_t, T*, T*,
                                    T*, float*) {
  return NoCuda();
}

template absl::Status CachedAttentionForward<float>(CudaStream, const float*, const AttentionShape&,
                                                    int64_t, float*, float*, float*, float*);
template absl::Status CachedAttentionForward<Bf16>(CudaStream, const Bf16*, const AttentionShape&,
                                                   int64_t, Bf16*, Bf16*, Bf16*, float*);

}  // namespace strake::cuda
