// The vector instructions that the CPU's kernels use. They are chosen at run time, so that one
// binary is fast everywhere.
//
// A kernel consists of a source NAME_cpu.cc and a header. strake_cpu_kernel (core/cc.bzl) compiles
// the source once for each set of instructions, in a namespace of its own; the header declares it
// with STRAKE_CPU_KERNEL. Ops call it with STRAKE_CPU_RUN. Outside of that namespace, such a source
// only calls functions that are sure to be inlined. Of other inline functions the linker keeps one
// copy for the whole program, and it must not pick one with instructions that the machine lacks.
#ifndef STRAKE_CORE_OPS_CPU_ISA_H_
#define STRAKE_CORE_OPS_CPU_ISA_H_

namespace strake::cpu {

enum class Isa {
  kAvx2,    // x86-64-v3: AVX2 and FMA, which every build needs
  kAvx512,  // x86-64-v4: AVX-512 F, BW, CD, DQ and VL
};

// The best set of instructions that this machine has.
Isa BestIsa();
// The set that kernels use: BestIsa(), unless a ScopedIsa overrides it.
Isa CurrentIsa();

// Selects another set of instructions, which the machine must have. For tests and benchmarks, while
// no kernel runs.
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

// Declares the same things for each set of instructions. Used within strake::cpu.
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
