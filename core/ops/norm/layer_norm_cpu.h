// LayerNorm of f32 and bf16, with statistics in f32. See core/ops/norm/layer_norm.h.
#ifndef STRAKE_CORE_OPS_NORM_LAYER_NORM_CPU_H_
#define STRAKE_CORE_OPS_NORM_LAYER_NORM_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
// `residual` may be null: then sum is x, and not written.
template <typename T>
void LayerNormForward(const T* x, const T* residual, const T* weight, const T* bias, int64_t rows,
                      int64_t columns, float eps, T* sum, T* y, float* mean, float* rstd);
template <typename T>
void LayerNormBackwardInput(const T* dy, const T* x, const T* weight, const float* mean,
                            const float* rstd, int64_t rows, int64_t columns, bool accumulate_dx,
                            T* dx);
// dweight and dbias of columns [begin, end), over all rows.
template <typename T>
void LayerNormBackwardWeight(const T* dy, const T* x, const float* mean, const float* rstd,
                             int64_t rows, int64_t columns, int64_t begin, int64_t end,
                             float* dweight, float* dbias);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_NORM_LAYER_NORM_CPU_H_
