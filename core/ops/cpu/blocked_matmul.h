// Matrix products of f32 and bf16 with sums in f32, in blocks that stay in caches: each block of
// the operands is copied to where its elements lie in the order in which they are read, and a tile
// of c is summed in registers (Goto and van de Geijn, "Anatomy of High-Performance Matrix
// Multiplication", 2008). See core/ops/matmul.h for the contract.
#ifndef STRAKE_CORE_OPS_CPU_BLOCKED_MATMUL_H_
#define STRAKE_CORE_OPS_CPU_BLOCKED_MATMUL_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// c [m, n] = or += op(a) [m, k] op(b) [k, n] + bias [n], k > 0. T = C = float, or T = Bf16 with C =
// float or Bf16.
template <typename T, typename C>
struct BlockedProduct {
  int64_t m, n, k;
  bool transpose_a, transpose_b, accumulate;
  const T* a;
  const T* b;
  const C* bias;  // or null
  C* c;
};

// Rows and columns of c.
struct MatmulRange {
  int64_t row_begin, row_end, column_begin, column_end;
};

// clang-format off
STRAKE_CPU_KERNEL(
// Floats of scratch, 64-byte aligned, for each thread; `output`: the dtype of c.
int64_t BlockedMatmulScratch(DType output);

// The `part`-th of `parts` ranges that cover c: cut along both dimensions so that the parts cost
// the same, and copy as little twice as can be. Empty where c is too small for so many.
MatmulRange BlockedMatmulPart(int64_t m, int64_t n, int64_t parts, int64_t part);

// A range of c. An element's sum does not depend on how c is cut.
template <typename T, typename C>
void BlockedMatmul(const BlockedProduct<T, C>& product, const MatmulRange& range, float* scratch);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_CPU_BLOCKED_MATMUL_H_
