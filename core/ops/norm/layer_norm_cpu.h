// LayerNorm of f32 and bf16, with statistics in f32. See core/ops/norm/layer_norm.h.
#ifndef STRAKE_CORE_OPS_NORM_LAYER_NORM_CPU_H_
#define STRAKE_CORE_OPS_NORM_LAYER_NORM_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/norm/layer_norm_args.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
// Computes rows [begin, end).
template <typename T>
void LayerNormForward(LayerNormForwardArgs<T> args, int64_t begin, int64_t end);
template <typename T>
void LayerNormBackwardInput(LayerNormBackwardArgs<T> args, int64_t begin, int64_t end);
// Computes columns [begin, end) of dweight and dbias, over all rows.
template <typename T>
void LayerNormBackwardWeight(LayerNormBackwardArgs<T> args, int64_t begin, int64_t end);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_NORM_LAYER_NORM_CPU_H_
