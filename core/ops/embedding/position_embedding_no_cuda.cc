// position_embedding.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/embedding/position_embedding_cuda.h"

namespace strake::cuda {

template <typename T>
absl::Status PositionEmbeddingForward(CudaStream, const T*, int64_t, int64_t, int64_t, int64_t,
                                      T*) {
  return NoCuda();
}

template <typename T>
absl::Status PositionEmbeddingBackward(CudaStream, const T*, int64_t, int64_t, int64_t, int64_t,
                                       float*) {
  return NoCuda();
}

template absl::Status PositionEmbeddingForward<float>(CudaStream, const float*, int64_t, int64_t,
                                                      int64_t, int64_t, float*);
template absl::Status PositionEmbeddingForward<Bf16>(CudaStream, const Bf16*, int64_t, int64_t,
                                                     int64_t, int64_t, Bf16*);
template absl::Status PositionEmbeddingBackward<float>(CudaStream, const float*, int64_t, int64_t,
                                                       int64_t, int64_t, float*);
template absl::Status PositionEmbeddingBackward<Bf16>(CudaStream, const Bf16*, int64_t, int64_t,
                                                      int64_t, int64_t, float*);

}  // namespace strake::cuda
