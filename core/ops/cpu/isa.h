// Which vector instructions the CPU's kernels use: chosen when a program runs, so that one binary
// is fast everywhere.
//
// A kernel is a source core/ops/cpu/NAME.cc of strake_cpu_kernel (core/cc.bzl), which compiles it
// once for each set of instructions, in a namespace of its own, and a header that declares it with
// STRAKE_CPU_KERNEL. Ops call it with STRAKE_CPU_RUN. Such a source calls nothing outside of that
// namespace but what is sure to be inlined: of other inline functions the linker keeps one copy for
// the whole program, and must not take one with instructions that the machine lacks.
#ifndef STRAKE_CORE_OPS_CPU_ISA_H_
#define STRAKE_CORE_OPS_CPU_ISA_H_

namespace strake::cpu {

enum class Isa {
  kAvx2,    // x86-64-v3: AVX2 and FMA, which every build needs
  kAvx512,  // x86-64-v4: AVX-512 F, BW, CD, DQ and VL
};

// The best that this machine has.
Isa BestIsa();
// What kernels run on: BestIsa(), unless a ScopedIsa says otherwise.
Isa CurrentIsa();

// For tests and benchmarks, while no kernel runs: another set of instructions, which the machine
// has.
class ScopedIsa {
 public:
  explicit ScopedIsa(Isa isa);
  ~ScopedIsa();
  ScopedIsa(const ScopedIsa&) = delete;
  ScopedIsa& operator=(const ScopedIsa&) = delete;

 private:
  const Isa previous_;
};

}  // namespace strake::cpu

// Within strake::cpu: declares the same things for each set of instructions.
#define STRAKE_CPU_KERNEL(...) \
  namespace avx2 {             \
  __VA_ARGS__                  \
  }                            \
  namespace avx512 {           \
  __VA_ARGS__                  \
  }

// Calls a kernel, or evaluates an expression that begins with one.
#define STRAKE_CPU_RUN(...)                                                                        \
  (::strake::cpu::CurrentIsa() == ::strake::cpu::Isa::kAvx512 ? ::strake::cpu::avx512::__VA_ARGS__ \
                                                              : ::strake::cpu::avx2::__VA_ARGS__)

#endif  // STRAKE_CORE_OPS_CPU_ISA_H_
