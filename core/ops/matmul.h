// Matrix product.
//
//   c  = op(a) op(b)        c [M, N], op(a) [M, K], op(b) [K, N]; op transposes where asked
//   c += op(a) op(b)        with `accumulate`
//
// dtypes: f32; f64 and c128 on the reference path. All tensors share one. Row-major. K = 0 gives
// zeros. c overlaps neither input.
#ifndef STRAKE_CORE_OPS_MATMUL_H_
#define STRAKE_CORE_OPS_MATMUL_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

struct MatmulOptions {
  bool transpose_a = false;  // a is stored [K, M]
  bool transpose_b = false;  // b is stored [N, K]
  bool accumulate = false;   // += instead of =
};

// Its backward passes are two more products: dA = dC B^T and dB = A^T dC.
absl::Status Matmul(const Context& ctx, const Tensor& a, const Tensor& b, MatmulOptions options,
                    Tensor c);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_MATMUL_H_
