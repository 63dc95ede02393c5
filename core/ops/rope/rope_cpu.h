// RoPE of f32 and bf16. See core/ops/rope/rope.h.
#ifndef STRAKE_CORE_OPS_ROPE_ROPE_CPU_H_
#define STRAKE_CORE_OPS_ROPE_ROPE_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
// Heads of rows [begin, end) of x, `stride` elements apart, in place; row n has the angles of table
// row position_offset + n mod seq_len, negated when `inverse`.
template <typename T>
void Rope(const double* table, int64_t head_dim, int64_t num_heads, int64_t seq_len,
          int64_t position_offset, bool inverse, int64_t begin, int64_t end, int64_t stride, T* x);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_ROPE_ROPE_CPU_H_
