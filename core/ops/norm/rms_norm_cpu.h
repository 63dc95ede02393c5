// RMSNorm of f32 and bf16, with statistics in f32. See core/ops/norm/rms_norm.h.
#ifndef STRAKE_CORE_OPS_NORM_RMS_NORM_CPU_H_
#define STRAKE_CORE_OPS_NORM_RMS_NORM_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
// `residual` may be null: then sum is x, and not written.
template <typename T>
void RmsNormForward(const T* x, const T* residual, const T* weight, int64_t rows, int64_t columns,
                    float eps, T* sum, T* y, float* rstd);
template <typename T>
void RmsNormBackwardInput(const T* dy, const T* x, const T* weight, const float* rstd, int64_t rows,
                          int64_t columns, bool accumulate_dx, T* dx);
// dweight of columns [begin, end), over all rows.
template <typename T>
void RmsNormBackwardWeight(const T* dy, const T* x, const float* rstd, int64_t rows,
                           int64_t columns, int64_t begin, int64_t end, float* dweight);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_NORM_RMS_NORM_CPU_H_
