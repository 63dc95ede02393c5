#include "core/ops/gelu/gelu_cpu.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

constexpr float kLinear = 0.79788456080286535588f;  // sqrt(2 / pi)
constexpr float kCubic = 0.79788456080286535588f * 0.044715f;

// (1 + tanh(z)) / 2 is the sigmoid of 2 z.
STRAKE_INLINE Sigmoid Gate(Vec x) { return Sigmoid(2 * x * (kLinear + kCubic * x * x)); }

}  // namespace

template <typename T>
void GeluForward(const T* x, int64_t size, T* y) {
  ForEachVector(size, [&](int64_t i, auto part) {
    const Vec in = Load(x + i, part);
    Store(in * Gate(in).value, y + i, part);
  });
}

template <typename T>
void GeluBackward(const T* dy, const T* x, int64_t size, T* dx) {
  ForEachVector(size, [&](int64_t i, auto part) {
    const Vec in = Load(x + i, part);
    const Sigmoid gate = Gate(in);
    const Vec slope = 2 * in * (kLinear + 3 * kCubic * in * in);
    Store(Load(dy + i, part) * gate.value * (1 + gate.complement * slope), dx + i, part);
  });
}

template void GeluForward(const float*, int64_t, float*);
template void GeluForward(const Bf16*, int64_t, Bf16*);
template void GeluBackward(const float*, const float*, int64_t, float*);
template void GeluBackward(const Bf16*, const Bf16*, int64_t, Bf16*);

}  // namespace strake::cpu::STRAKE_CPU_ISA
