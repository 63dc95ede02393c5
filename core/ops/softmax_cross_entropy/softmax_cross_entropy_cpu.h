// Softmax cross-entropy of f32 and bf16 logits; all other tensors are f32. See
// core/ops/softmax_cross_entropy/softmax_cross_entropy.h.
#ifndef STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_CPU_H_
#define STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/softmax_cross_entropy/softmax_slice_sums_args.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
// Rows have `columns` elements: the first `num_tokens` are tokens from `first` on, the rest
// padding. Targets are within the vocabulary, or kNoTarget.
template <typename T>
void SoftmaxCrossEntropyForward(const T* logits, const int32_t* targets, int64_t rows,
                                int64_t columns, int64_t vocab_size, float* loss, float* lse);
template <typename T>
void SoftmaxSliceMax(const T* logits, int64_t rows, int64_t columns, int64_t num_tokens,
                     float* max);
// Computes rows [begin, end).
template <typename T>
void SoftmaxSliceSums(SoftmaxSliceSumsArgs<T> args, int64_t begin, int64_t end);
template <typename T>
void SoftmaxCrossEntropyBackward(const int32_t* targets, const float* lse, int64_t rows,
                                 int64_t columns, int64_t first, int64_t num_tokens, float scale,
                                 float softcap, T* logits);
// The forward and the backward pass, row by row, while a row is in cache.
template <typename T>
void SoftmaxCrossEntropyForwardBackward(const int32_t* targets, int64_t rows, int64_t columns,
                                        int64_t vocab_size, float scale, float softcap, T* logits,
                                        float* loss, float* lse);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_CPU_H_
