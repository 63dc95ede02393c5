// Matrix product, and what a linear layer or a GELU beside it does to each element of the product.
//
//   u = op(a) op(b) + bias      op(a) [M, K], op(b) [K, N]; op transposes where asked; bias [N]
//   c  = u
//   c += u                      with `accumulate`
//   c  = gelu(u)                with `gelu_input`, which becomes u
//   c  = u gelu'(x)             with `gelu_grad_input` x, and no bias
//
// c [M, N]. dtypes: f32; bf16, with sums in f32; f64 and c128 on the reference path. All
// tensors share one, but c may be f32 for bf16 inputs, where it has neither bias nor GELU.
// Row-major. K = 0 gives zeros for the product. c overlaps no other tensor.
//
// On CUDA all of it is one call of cuBLASLt where that has such a one (CublasLt::CanFuse), and u is
// then not rounded on its way; else the ops bias_add and gelu follow the product. On the CPU one
// row comes from a kernel that reads b once, several rows from a kernel in blocks, with all of it,
// or from oneDNN, with the bias: by dtype, instructions and shape. In bf16 oneDNN has instructions
// for it (AVX512_BF16, AMX) or does without on AVX-512; on machines without that, and in builds
// without oneDNN, the blocks are multiplied in f32.
#ifndef STRAKE_CORE_OPS_MATMUL_MATMUL_H_
#define STRAKE_CORE_OPS_MATMUL_MATMUL_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// Undefined tensors: none. `accumulate` goes with none of them, and the last with no other.
struct MatmulOptions {
  bool transpose_a = false;     // a is stored [K, M]
  bool transpose_b = false;     // b is stored [N, K]
  bool accumulate = false;      // += instead of =
  Tensor bias = {};             // [N]
  Tensor gelu_input = {};       // [M, N], =
  Tensor gelu_grad_input = {};  // [M, N], read
};

// Its backward passes are two more products: dA = dC B^T and dB = A^T dC.
absl::Status Matmul(const Context& ctx, const Tensor& a, const Tensor& b,
                    const MatmulOptions& options, Tensor c);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_MATMUL_MATMUL_H_
