#include "core/ops/cpu/isa.h"

#include "glog/logging.h"

namespace strake::cpu {
namespace {

Isa& Current() {
  static Isa isa = BestIsa();
  return isa;
}

}  // namespace

Isa BestIsa() {
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  return avx512 ? Isa::kAvx512 : Isa::kAvx2;
}

Isa CurrentIsa() { return Current(); }

ScopedIsa::ScopedIsa(Isa isa) : previous_(Current()) {
  CHECK(isa <= BestIsa()) << "[isa] this machine has no AVX-512";
  Current() = isa;
}

ScopedIsa::~ScopedIsa() { Current() = previous_; }

}  // namespace strake::cpu
