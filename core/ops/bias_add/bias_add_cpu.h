// Bias addition of f32 and bf16. See core/ops/bias_add/bias_add.h.
#ifndef STRAKE_CORE_OPS_BIAS_ADD_BIAS_ADD_CPU_H_
#define STRAKE_CORE_OPS_BIAS_ADD_BIAS_ADD_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
template <typename T>
void BiasAddForward(const T* x, const T* bias, int64_t rows, int64_t columns, T* y);
// Computes columns [begin, end) of dbias += the sum over all rows.
template <typename T>
void BiasAddBackward(const T* dy, int64_t rows, int64_t columns, int64_t begin, int64_t end,
                     float* dbias);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_BIAS_ADD_BIAS_ADD_CPU_H_
