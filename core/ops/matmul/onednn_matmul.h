// Matrix products of f32 and bf16 through oneDNN, with sums in f32. See core/ops/matmul/matmul.h
// for the contract.
#ifndef STRAKE_CORE_OPS_MATMUL_ONEDNN_MATMUL_H_
#define STRAKE_CORE_OPS_MATMUL_ONEDNN_MATMUL_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/matmul/blocked_matmul_cpu.h"

namespace strake::cpu {

// c [m, n] = or += op(a) [m, k] op(b) [k, n] + bias. None of m, n and k is 0.
struct Product {
  int64_t m, n, k;
  bool transpose_a, transpose_b, accumulate;
  DType input, output;  // f32 and f32, bf16 and bf16, or bf16 and f32
  const void* a;
  const void* b;
  const void* bias;  // [n] of `output`, or null
  void* c;
};

// Returns false in a build without oneDNN, and for bf16 if the machine has no AVX-512. If the
// machine has bf16 instructions (AVX512_BF16, AMX), the library uses them.
bool CanMultiply(DType input);

// Computes a range of c on the calling thread. Requires CanMultiply(). Primitives are cached per
// thread, so the first call with a shape costs more.
void Multiply(const Product& product, const MatmulRange& range);

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_MATMUL_ONEDNN_MATMUL_H_
