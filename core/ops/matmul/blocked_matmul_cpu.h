// Matrix products of f32 and bf16 with sums in f32, in blocks that stay in caches. Each block of
// the operands is packed in the order in which its elements are read, and a tile of c is summed in
// registers (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008). See
// core/ops/matmul/matmul.h for the contract.
#ifndef STRAKE_CORE_OPS_MATMUL_BLOCKED_MATMUL_CPU_H_
#define STRAKE_CORE_OPS_MATMUL_BLOCKED_MATMUL_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// c [m, n] = or += op(a) [m, k] op(b) [k, n] + bias [n], k > 0. Either T = C = float, or T = Bf16
// and C = float or Bf16.
template <typename T, typename C>
struct BlockedProduct {
  int64_t m, n, k;
  bool transpose_a, transpose_b, accumulate;
  const T* a;
  const T* b;
  const C* bias;  // or null
  C* c;
};

// A range of rows and columns of c.
struct MatmulRange {
  int64_t row_begin, row_end, column_begin, column_end;
};

// A thread's scratch for the ranges of one product.
struct MatmulScratch {
  float* data;  // BlockedMatmulScratch() floats
  // First column of the block of b that was packed for the last range and is still there, or -1. It
  // is best to compute ranges of the same columns one after another.
  int64_t kept_columns = -1;
};

// The largest range of one call, and the grain that the rows and columns of ranges are best
// multiples of. Both hold for any set of instructions.
inline constexpr int64_t kMatmulBlockRows = 288, kMatmulBlockColumns = 256;
inline constexpr int64_t kMatmulRowGrain = 12, kMatmulColumnGrain = 32;

// clang-format off
STRAKE_CPU_KERNEL(
// Floats of scratch, 64-byte aligned; `output` is the dtype of c.
int64_t BlockedMatmulScratch(DType output);

// Computes a range of c, at most kMatmulBlockRows by kMatmulBlockColumns. Ranges that begin at the
// same column must have the same columns. An element's sum does not depend on how c is cut into
// ranges.
template <typename T, typename C>
void BlockedMatmul(const BlockedProduct<T, C>& product, const MatmulRange& range,
                   MatmulScratch* scratch);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_MATMUL_BLOCKED_MATMUL_CPU_H_
