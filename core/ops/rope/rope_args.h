// Arguments of the kernels of RoPE: the reference, the CPU's and CUDA's.
#ifndef STRAKE_CORE_OPS_ROPE_ROPE_ARGS_H_
#define STRAKE_CORE_OPS_ROPE_ROPE_ARGS_H_

#include <cstdint>

namespace strake {

// Rotates the first rotary_dim features of the first num_heads heads of x [tokens, stride] in
// place: token n by the angles of row RowOf(n) of the table, or by the negative angles if
// `transposed`. Pairs are (i, i + rotary_dim / 2), or (2i, 2i + 1) if `interleaved`.
template <typename T>
struct RopeArgs {
  // Always inlined, for core/ops/cpu/isa.h.
  [[gnu::always_inline]] int64_t RowOf(int64_t token) const {
    return positions != nullptr ? positions[token] : position_offset + token % seq_len;
  }

  const double* table;  // [P, rotary_dim]
  int64_t rotary_dim, head_dim, num_heads, seq_len, position_offset;
  bool interleaved, transposed;
  int64_t tokens, stride;
  T* x;
  const int32_t* positions = nullptr;  // [tokens]; null where seq_len and position_offset give them
  int64_t num_positions = 0;           // P, where positions are given
};

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ROPE_ROPE_ARGS_H_
