// The product of a few rows with a matrix, of f32 or bf16 with sums in f32. Generation consists of
// such products. Memory bandwidth is the limit, so the matrix is read from memory once for all
// rows.
#ifndef STRAKE_CORE_OPS_MATMUL_FEW_ROWS_MATMUL_CPU_H_
#define STRAKE_CORE_OPS_MATMUL_FEW_ROWS_MATMUL_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

inline constexpr int64_t kMaxFewRows = 8;

// c [m, n] = or += a [m, k] op(b), with m from 1 to kMaxFewRows; op(b) is b [k, n], or b [n, k]
// transposed. T = float, and T = Bf16 with C = float or Bf16; a is f32 in any case.
template <typename T, typename C>
struct FewRowsProduct {
  int64_t m, n, k;
  bool transpose_b, accumulate;
  const float* a;
  const T* b;
  C* c;
};

// clang-format off
STRAKE_CPU_KERNEL(
// Computes columns [begin, end) of c. An element's sum depends neither on the range nor on the
// other rows: a row among others has the bits of a row alone.
template <typename T, typename C>
void FewRowsMatmul(const FewRowsProduct<T, C>& product, int64_t begin, int64_t end);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_MATMUL_FEW_ROWS_MATMUL_CPU_H_
