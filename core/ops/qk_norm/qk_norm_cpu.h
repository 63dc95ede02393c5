// QkNorm of f32 and bf16, with statistics in f32. See core/ops/qk_norm/qk_norm.h.
#ifndef STRAKE_CORE_OPS_QK_NORM_QK_NORM_CPU_H_
#define STRAKE_CORE_OPS_QK_NORM_QK_NORM_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/qk_norm/qk_norm_args.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
// Computes rows [begin, end).
template <typename T>
void QkNormForward(QkNormForwardArgs<T> args, int64_t begin, int64_t end);
template <typename T>
void QkNormBackwardInput(QkNormBackwardArgs<T> args, int64_t begin, int64_t end);
template <typename T>
void QkNormSums(QkNormSumsArgs<T> args, int64_t begin, int64_t end);
// Computes columns [begin, end) of the gradient of a part's weight, over all rows.
template <typename T>
void QkNormBackwardWeight(QkNormBackwardArgs<T> args, int part_index, int64_t begin, int64_t end);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_QK_NORM_QK_NORM_CPU_H_
