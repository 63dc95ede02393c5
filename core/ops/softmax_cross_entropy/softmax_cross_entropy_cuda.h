// Softmax cross-entropy on CUDA. See core/ops/softmax_cross_entropy/softmax_cross_entropy.h for the
// formulas.
//
// N rows, R columns, both below 2^31; `slice` says which columns are tokens. T: float or Bf16; all
// other tensors are f32. Tensors are row-major and packed, in device memory; 128-bit accesses where
// R and the addresses allow it. Work is enqueued on `stream`. The call does not wait for it, and so
// does not report a target that is neither in [0, slice.vocab_size) nor kNoTarget: its row of loss,
// sums and gradient becomes NaN. Gives the same bits every time. Returns an error for a launch that
// the device refuses.
#ifndef STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_CUDA_H_
#define STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"
#include "core/ops/softmax_cross_entropy/softmax_slice_sums_args.h"
#include "core/ops/vocab_slice.h"

namespace strake::cuda {

// loss = [N], lse = [N], from logits [N, R] and targets [N], where R >= vocab_size.
template <typename T>
struct SoftmaxCrossEntropyForwardArgs {
  const T* logits;
  const int32_t* targets;
  int64_t rows, columns, vocab_size;
  float *loss, *lse;
};
template <typename T>
absl::Status SoftmaxCrossEntropyForward(CudaStream stream,
                                        const SoftmaxCrossEntropyForwardArgs<T>& args);

// SoftmaxCrossEntropyForward, then SoftmaxCrossEntropyBackward, with the same bits; but a row of
// logits that the first half read is still in L2 for the second.
template <typename T>
struct SoftmaxCrossEntropyForwardBackwardArgs {
  const int32_t* targets;
  int64_t rows, columns, vocab_size;
  float scale, softcap;
  T* logits;
  float *loss, *lse;
};
template <typename T>
absl::Status SoftmaxCrossEntropyForwardBackward(
    CudaStream stream, const SoftmaxCrossEntropyForwardBackwardArgs<T>& args);

// max = [N], -infinity where the slice has no tokens; from logits [N, R].
template <typename T>
struct SoftmaxSliceMaxArgs {
  const T* logits;
  int64_t rows, columns;
  VocabSlice slice;
  float* max;
};
template <typename T>
absl::Status SoftmaxSliceMax(CudaStream stream, const SoftmaxSliceMaxArgs<T>& args);

// sums = [2, N], from logits [N, R], targets [N] and the whole vocabulary's max [N].
template <typename T>
absl::Status SoftmaxSliceSums(CudaStream stream, const SoftmaxSliceSumsArgs<T>& args);

// loss = [N], lse = [N], from targets [N], max [N] and sums [2, N].
struct SoftmaxCrossEntropyFromSumsArgs {
  const int32_t* targets;
  const float *max, *sums;
  int64_t rows;
  float *loss, *lse;
};
absl::Status SoftmaxCrossEntropyFromSums(CudaStream stream,
                                         const SoftmaxCrossEntropyFromSumsArgs& args);

// In place: logits [N, R] = scale * (softmax(logits) - onehot(target)), times the slope of a
// softcap other than 0; 0 for padding; from the whole vocabulary's lse [N].
template <typename T>
struct SoftmaxCrossEntropyBackwardArgs {
  const int32_t* targets;
  const float* lse;
  int64_t rows, columns;
  VocabSlice slice;
  float scale, softcap;
  T* logits;
};
template <typename T>
absl::Status SoftmaxCrossEntropyBackward(CudaStream stream,
                                         const SoftmaxCrossEntropyBackwardArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_SOFTMAX_CROSS_ENTROPY_KERNELS(KERNEL)      \
  KERNEL(SoftmaxCrossEntropyForward, float, Bf16)         \
  KERNEL(SoftmaxCrossEntropyForwardBackward, float, Bf16) \
  KERNEL(SoftmaxSliceMax, float, Bf16)                    \
  KERNEL(SoftmaxSliceSums, float, Bf16)                   \
  KERNEL(SoftmaxCrossEntropyFromSums)                     \
  KERNEL(SoftmaxCrossEntropyBackward, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_CUDA_H_
