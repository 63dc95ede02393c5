// softmax_cross_entropy.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy_cuda.h"

namespace strake::cuda {

template <typename T>
absl::Status SoftmaxCrossEntropyForward(CudaStream, const T*, const int32_t*, int64_t, int64_t,
                                        int64_t, float*, float*) {
  return NoCuda();
}

template <typename T>
absl::Status SoftmaxCrossEntropyForwardBackward(CudaStream, const int32_t*, int64_t, int64_t,
                                                int64_t, float, T*, float*, float*) {
  return NoCuda();
}

template <typename T>
absl::Status SoftmaxSliceMax(CudaStream, const T*, int64_t, int64_t, const VocabSlice&, float*) {
  return NoCuda();
}

template <typename T>
absl::Status SoftmaxSliceSums(CudaStream, const T*, const int32_t*, int64_t, int64_t,
                              const VocabSlice&, const float*, float*) {
  return NoCuda();
}

absl::Status SoftmaxCrossEntropyFromSums(CudaStream, const float*, const float*, int64_t, float*,
                                         float*) {
  return NoCuda();
}

template <typename T>
absl::Status SoftmaxCrossEntropyBackward(CudaStream, const int32_t*, const float*, int64_t, int64_t,
                                         const VocabSlice&, float, T*) {
  return NoCuda();
}

template absl::Status SoftmaxCrossEntropyForward<float>(CudaStream, const float*, const int32_t*,
                                                        int64_t, int64_t, int64_t, float*, float*);
template absl::Status SoftmaxCrossEntropyForwardBackward<float>(CudaStream, const int32_t*, int64_t,
                                                                int64_t, int64_t, float, float*,
                                                                float*, float*);
template absl::Status SoftmaxSliceMax<float>(CudaStream, const float*, int64_t, int64_t,
                                             const VocabSlice&, float*);
template absl::Status SoftmaxSliceSums<float>(CudaStream, const float*, const int32_t*, int64_t,
                                              int64_t, const VocabSlice&, const float*, float*);
template absl::Status SoftmaxCrossEntropyBackward<float>(CudaStream, const int32_t*, const float*,
                                                         int64_t, int64_t, const VocabSlice&, float,
                                                         float*);
template absl::Status SoftmaxCrossEntropyForward<Bf16>(CudaStream, const Bf16*, const int32_t*,
                                                       int64_t, int64_t, int64_t, float*, float*);
template absl::Status SoftmaxCrossEntropyForwardBackward<Bf16>(CudaStream, const int32_t*, int64_t,
                                                               int64_t, int64_t, float, Bf16*,
                                                               float*, float*);
template absl::Status SoftmaxSliceMax<Bf16>(CudaStream, const Bf16*, int64_t, int64_t,
                                            const VocabSlice&, float*);
template absl::Status SoftmaxSliceSums<Bf16>(CudaStream, const Bf16*, const int32_t*, int64_t,
                                             int64_t, const VocabSlice&, const float*, float*);
template absl::Status SoftmaxCrossEntropyBackward<Bf16>(CudaStream, const int32_t*, const float*,
                                                        int64_t, int64_t, const VocabSlice&, float,
                                                        Bf16*);

}  // namespace strake::cuda
