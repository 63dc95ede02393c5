// Arguments of the kernels of SoftmaxSliceSums: the reference, the CPU's and CUDA's.
#ifndef STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_SLICE_SUMS_ARGS_H_
#define STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_SLICE_SUMS_ARGS_H_

#include <cstdint>

#include "core/ops/vocab_slice.h"

namespace strake {

// N rows of R columns; `slice` says which columns are tokens. T is the logits' type; Sum and Max
// are the types of sums and maxima, f32 for f32 and bf16.
template <typename T, typename Sum = float, typename Max = float>
struct SoftmaxSliceSumsArgs {
  const T* logits;         // [N, R]
  const int32_t* targets;  // [N]
  int64_t rows, columns;
  VocabSlice slice;
  const Max* max;  // [N], of the whole vocabulary
  Sum* sums;       // [2, N]: the sum of exp(logit - max), and the target's logit - max or 0
};

}  // namespace strake

#endif  // STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_SLICE_SUMS_ARGS_H_
