// Matrix product, with the bias or GELU that a layer applies to each element of the product, or
// with the gradient of a bias beside that of a weight.
//
//   u = op(a) op(b) + bias      op(a) [M, K], op(b) [K, N]; op transposes where asked; bias [N]
//   c  = u
//   c += u                      with `accumulate`
//   c  = gelu(u)                with `gelu_input`, which becomes u
//   c  = u gelu'(x)             with `gelu_grad_input` x, and no bias
//   s += sum of op(a) over K    with `a_sums` s [M], where a is stored transposed
//   s += sum of op(b) over K    with `b_sums` s [N], where b is not stored transposed
//
// c [M, N]. dtypes: f32; bf16, with sums in f32; f64 and c128 on the reference path. All tensors
// share one dtype, except that c may be f32 for bf16 inputs if there is neither bias nor GELU, and
// that the sums are always of AccumulationDType(). Row-major. K = 0 gives zeros for the product. c
// overlaps no other tensor.
//
// One call of cuBLASLt computes all of it on CUDA if its documented limits (CublasLt::CanFuse) and
// the library on this GPU allow it, and u is then not rounded in between; otherwise the ops
// bias_add and gelu follow the product. The library is asked once per shape. Neither way needs more
// memory than a dry run plans, which knows the limits alone.
//
// A product of up to 8 rows uses, on the CPU, a kernel that reads b once, unless a of several rows
// is stored transposed. Each row has the bits that it has alone. Products of more rows use a
// blocked kernel, which includes bias and GELU, or oneDNN, which includes the bias; dtype,
// instructions and shape decide. For bf16, oneDNN uses bf16 instructions (AVX512_BF16, AMX), or
// AVX-512 without them; on machines without AVX-512, and in builds without oneDNN, the blocks are
// multiplied in f32.
#ifndef STRAKE_CORE_OPS_MATMUL_MATMUL_H_
#define STRAKE_CORE_OPS_MATMUL_MATMUL_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// An undefined tensor means none. `accumulate` excludes bias and GELU, gelu_grad_input excludes the
// other two, and the sums exclude these three and each other.
struct MatmulOptions {
  bool transpose_a = false;     // a is stored [K, M]
  bool transpose_b = false;     // b is stored [N, K]
  bool accumulate = false;      // += instead of =
  Tensor bias = {};             // [N]
  Tensor gelu_input = {};       // [M, N], =
  Tensor gelu_grad_input = {};  // [M, N], read
  Tensor a_sums = {};           // [M], +=
  Tensor b_sums = {};           // [N], +=
};

// The backward passes are two more products: dA = dC B^T and dB = A^T dC.
absl::Status Matmul(const Context& ctx, const Tensor& a, const Tensor& b,
                    const MatmulOptions& options, Tensor c);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_MATMUL_MATMUL_H_
