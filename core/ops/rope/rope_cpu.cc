#include "core/ops/rope/rope_cpu.h"

#include <utility>

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

// Loads the angles of consecutive features, converted to f32.
STRAKE_INLINE Vec Angles(const double* from, int64_t count, bool negate) {
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = static_cast<float>(from[i]);
  const Vec value = LoadUnaligned(lanes);
  return negate ? -value : value;
}

// Rotates pairs (i, i + rotary_dim / 2) of the heads of a token.
template <typename T>
STRAKE_INLINE void RotateHalves(const RopeArgs<T>& args, const double* angles, T* row) {
  const int64_t head_dim = args.head_dim, num_heads = args.num_heads, half = args.rotary_dim / 2;
  ForEachVector(half, [&](int64_t i, auto part) {
    const Vec cos = Angles(angles + i, part.count, false);
    const Vec sin = Angles(angles + half + i, part.count, args.transposed);
    for (int64_t h = 0; h < num_heads; ++h) {
      T* first = row + h * head_dim + i;
      T* second = first + half;
      const Vec a = Load(first, part), b = Load(second, part);
      Store(a * cos - b * sin, first, part);
      Store(b * cos + a * sin, second, part);
    }
  });
}

// The angles of consecutive features in pairs (2i, 2i + 1): each of `from` twice, the first of both
// with the opposite sign if `alternate`.
STRAKE_INLINE Vec PairAngles(const double* from, int64_t count, bool negate, bool alternate) {
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < count; i += 2) {
    const float angle = static_cast<float>(negate ? -from[i / 2] : from[i / 2]);
    lanes[i] = alternate ? -angle : angle;
    lanes[i + 1] = angle;
  }
  return LoadUnaligned(lanes);
}

template <int... kIndex>
STRAKE_INLINE Vec SwapNeighbours(Vec x, std::integer_sequence<int, kIndex...>) {
  return __builtin_shufflevector(x, x, (kIndex ^ 1)...);
}

// Rotates pairs (2i, 2i + 1).
template <typename T>
STRAKE_INLINE void RotateNeighbours(const RopeArgs<T>& args, const double* angles, T* row) {
  const int64_t head_dim = args.head_dim, num_heads = args.num_heads, dim = args.rotary_dim;
  ForEachVector(dim, [&](int64_t i, auto part) {
    const Vec cos = PairAngles(angles + i / 2, part.count, false, false);
    const Vec sin = PairAngles(angles + dim / 2 + i / 2, part.count, args.transposed, true);
    for (int64_t h = 0; h < num_heads; ++h) {
      T* const pairs = row + h * head_dim + i;
      const Vec x = Load(pairs, part);
      const Vec swapped = SwapNeighbours(x, std::make_integer_sequence<int, kLanes>());
      Store(x * cos + swapped * sin, pairs, part);
    }
  });
}

template <bool kInterleaved, typename T>
STRAKE_INLINE void RotateTokens(const RopeArgs<T>& args, int64_t begin, int64_t end) {
  const int64_t rotary_dim = args.rotary_dim;
  for (int64_t n = begin; n < end; ++n) {
    const double* angles = args.table + args.RowOf(n) * rotary_dim;
    T* row = args.x + n * args.stride;
    if constexpr (kInterleaved) {
      RotateNeighbours(args, angles, row);
    } else {
      RotateHalves(args, angles, row);
    }
  }
}

}  // namespace

template <typename T>
void Rope(RopeArgs<T> args, int64_t begin, int64_t end) {
  if (args.interleaved) {
    RotateTokens<true>(args, begin, end);
  } else {
    RotateTokens<false>(args, begin, end);
  }
}

template void Rope(RopeArgs<float>, int64_t, int64_t);
template void Rope(RopeArgs<Bf16>, int64_t, int64_t);

}  // namespace strake::cpu::STRAKE_CPU_ISA
