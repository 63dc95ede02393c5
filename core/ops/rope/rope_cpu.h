// RoPE of f32 and bf16. See core/ops/rope/rope.h.
#ifndef STRAKE_CORE_OPS_ROPE_ROPE_CPU_H_
#define STRAKE_CORE_OPS_ROPE_ROPE_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/rope/rope_args.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
// Rotates tokens [begin, end).
template <typename T>
void Rope(RopeArgs<T> args, int64_t begin, int64_t end);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_ROPE_ROPE_CPU_H_
