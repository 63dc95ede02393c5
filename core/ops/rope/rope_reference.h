// Reference implementation of RoPE. See core/ops/rope/rope.h.
#ifndef STRAKE_CORE_OPS_ROPE_ROPE_REFERENCE_H_
#define STRAKE_CORE_OPS_ROPE_ROPE_REFERENCE_H_

#include <cstdint>

#include "core/ops/reference_eigen.h"
#include "core/ops/rope/rope_args.h"

namespace strake::reference {

// Rotates tokens [begin, end).
template <typename Scalar>
void Rope(const RopeArgs<Scalar>& args, int64_t begin, int64_t end) {
  using Column = Eigen::Array<Scalar, Eigen::Dynamic, 1>;
  using Step = Eigen::InnerStride<>;
  using Features = Eigen::Map<Column, Eigen::Unaligned, Step>;
  const int64_t half = args.rotary_dim / 2;
  const Step step(args.interleaved ? 2 : 1);
  const int64_t second_at = args.interleaved ? 1 : half;
  Column cos(half), sin(half), rotated(half);
  for (int64_t n = begin; n < end; ++n) {
    const double* angles = args.table + args.RowOf(n) * args.rotary_dim;
    cos = ConstArray<double>(angles, half).template cast<Scalar>();
    sin = ConstArray<double>(angles + half, half).template cast<Scalar>();
    if (args.transposed) sin = -sin;
    for (int64_t h = 0; h < args.num_heads; ++h) {
      Scalar* const head = args.x + n * args.stride + h * args.head_dim;
      Features first(head, half, step), second(head + second_at, half, step);
      rotated = first * cos - second * sin;
      second = second * cos + first * sin;
      first = rotated;
    }
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_ROPE_ROPE_REFERENCE_H_
