// Arguments of the kernels of RoPE: the reference, the CPU's and CUDA's.
#ifndef STRAKE_CORE_OPS_ROPE_ROPE_ARGS_H_
#define STRAKE_CORE_OPS_ROPE_ROPE_ARGS_H_

#include <cstdint>

namespace strake {

// Rotates the first rotary_dim features of the first num_heads heads of x [tokens, stride] in
// place: token n by the angles of row position_offset + n mod seq_len of the table, or by the
// negative angles if `transposed`. Pairs are (i, i + rotary_dim / 2), or (2i, 2i + 1) if
// `interleaved`.
template <typename T>
struct RopeArgs {
  const double* table;  // [P, rotary_dim]
  int64_t rotary_dim, head_dim, num_heads, seq_len, position_offset;
  bool interleaved, transposed;
  int64_t tokens, stride;
  T* x;
};

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ROPE_ROPE_ARGS_H_
