// RoPE by definition. See core/ops/rope/rope.h. At float this is the implementation too: the
// rotation is one pass over memory.
#ifndef STRAKE_CORE_OPS_ROPE_ROPE_REFERENCE_H_
#define STRAKE_CORE_OPS_ROPE_ROPE_REFERENCE_H_

#include <cstdint>

#include "core/ops/reference_eigen.h"

namespace strake::reference {

// Rotates heads of rows [begin, end) of x, `stride` elements apart, in place; row n has the angles
// of table row position_offset + n mod seq_len, negated when `inverse`.
template <typename Scalar>
void Rope(const double* table, int64_t head_dim, int64_t num_heads, int64_t seq_len,
          int64_t position_offset, bool inverse, int64_t begin, int64_t end, int64_t stride,
          Scalar* x) {
  using Column = Eigen::Array<Scalar, Eigen::Dynamic, 1>;
  const int64_t half = head_dim / 2;
  Column cos(half), sin(half), rotated(half);
  for (int64_t n = begin; n < end; ++n) {
    const double* angles = table + (position_offset + n % seq_len) * head_dim;
    cos = ConstArray<double>(angles, half).template cast<Scalar>();
    sin = ConstArray<double>(angles + half, half).template cast<Scalar>();
    if (inverse) sin = -sin;
    for (int64_t h = 0; h < num_heads; ++h) {
      Array<Scalar> first(x + n * stride + h * head_dim, half);
      Array<Scalar> second(x + n * stride + h * head_dim + half, half);
      rotated = first * cos - second * sin;
      second = second * cos + first * sin;
      first = rotated;
    }
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_ROPE_ROPE_REFERENCE_H_
