// embedding.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/embedding/embedding_cuda.h"

namespace strake::cuda {

template <typename T>
absl::Status EmbeddingForward(CudaStream, const int32_t*, int64_t, const VocabSlice&, const T*,
                              int64_t, int64_t, T*) {
  return NoCuda();
}

size_t EmbeddingBackwardWorkspaceBytes(int64_t, int64_t) { return 0; }

template <typename T>
absl::Status EmbeddingBackward(CudaStream, const T*, const int32_t*, int64_t, const VocabSlice&,
                               int64_t, int64_t, float*, void*) {
  return NoCuda();
}

template absl::Status EmbeddingForward<float>(CudaStream, const int32_t*, int64_t,
                                              const VocabSlice&, const float*, int64_t, int64_t,
                                              float*);
template absl::Status EmbeddingForward<Bf16>(CudaStream, const int32_t*, int64_t, const VocabSlice&,
                                             const Bf16*, int64_t, int64_t, Bf16*);
template absl::Status EmbeddingBackward<float>(CudaStream, const float*, const int32_t*, int64_t,
                                               const VocabSlice&, int64_t, int64_t, float*, void*);
template absl::Status EmbeddingBackward<Bf16>(CudaStream, const Bf16*, const int32_t*, int64_t,
                                              const VocabSlice&, int64_t, int64_t, float*, void*);

}  // namespace strake::cuda
