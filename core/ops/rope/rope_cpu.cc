#include "core/ops/rope/rope_cpu.h"

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

}  // namespace

template <typename T>
void Rope(RopeArgs<T> args, int64_t begin, int64_t end) {
  const int64_t head_dim = args.head_dim, num_heads = args.num_heads, half = head_dim / 2;
  for (int64_t n = begin; n < end; ++n) {
    const double* angles = args.table + (args.position_offset + n % args.seq_len) * head_dim;
    T* row = args.x + n * args.stride;
    ForEachVector(half, [&](int64_t i, auto part) {
      const Vec cos = Angles(angles + i, part.count, false);
      const Vec sin = Angles(angles + half + i, part.count, args.inverse);
      for (int64_t h = 0; h < num_heads; ++h) {
        T* first = row + h * head_dim + i;
        T* second = first + half;
        const Vec a = Load(first, part), b = Load(second, part);
        Store(a * cos - b * sin, first, part);
        Store(b * cos + a * sin, second, part);
      }
    });
  }
}

template void Rope(RopeArgs<float>, int64_t, int64_t);
template void Rope(RopeArgs<Bf16>, int64_t, int64_t);

}  // namespace strake::cpu::STRAKE_CPU_ISA
