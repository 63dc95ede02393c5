// causal_attention.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/attention/causal_attention_cuda.h"

namespace strake::cuda {

template <typename T>
absl::Status CausalAttentionForward(CudaStream, const T*, const AttentionShape&, T*, float*) {
  return NoCuda();
}

int64_t CausalAttentionBackwardWorkspaceSize(const AttentionShape&) { return 0; }

template <typename T>
absl::Status CausalAttentionBackward(CudaStream, const T*, const T*, const T*, const float*,
                                     const AttentionShape&, T*, float*) {
  return NoCuda();
}

template absl::Status CausalAttentionForward<float>(CudaStream, const float*, const AttentionShape&,
                                                    float*, float*);
template absl::Status CausalAttentionForward<Bf16>(CudaStream, const Bf16*, const AttentionShape&,
                                                   Bf16*, float*);
template absl::Status CausalAttentionBackward<float>(CudaStream, const float*, const float*,
                                                     const float*, const float*,
                                                     const AttentionShape&, float*, float*);
template absl::Status CausalAttentionBackward<Bf16>(CudaStream, const Bf16*, const Bf16*,
                                                    const Bf16*, const float*,
                                                    const AttentionShape&, Bf16*, float*);

}  // namespace strake::cuda
