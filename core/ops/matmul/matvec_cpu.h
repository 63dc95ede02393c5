// The product of one row with a matrix, of f32 or bf16 with sums in f32. Generation consists of
// such products. Memory bandwidth is the limit.
#ifndef STRAKE_CORE_OPS_MATMUL_MATVEC_CPU_H_
#define STRAKE_CORE_OPS_MATMUL_MATVEC_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
// c [begin, end) = or += a [k] b [k, n], for T = float, and for T = Bf16 with C = float or Bf16.
template <typename T, typename C>
void MatVec(const T* a, const T* b, int64_t n, int64_t k, int64_t begin, int64_t end,
            bool accumulate, C* c);
// The same, with b stored [n, k].
template <typename T, typename C>
void MatVecTransposed(const T* a, const T* b, int64_t k, int64_t begin, int64_t end,
                      bool accumulate, C* c);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_MATMUL_MATVEC_CPU_H_
