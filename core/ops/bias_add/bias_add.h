// Bias: adds one row to every row of a matrix.
//
//   y[n,c] = x[n,c] + bias[c]
//
// N rows, C columns. dtypes: f32; bf16, with dbias in f32; f64 and c128 on the reference path. All
// other tensors share one dtype.
#ifndef STRAKE_CORE_OPS_BIAS_ADD_BIAS_ADD_H_
#define STRAKE_CORE_OPS_BIAS_ADD_BIAS_ADD_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// y = [N, C], from x [N, C] and bias [C]. y may be x.
absl::Status BiasAddForward(const Context& ctx, const Tensor& x, const Tensor& bias, Tensor y);

// dbias [C] += sum over rows of dy [N, C]. The input's gradient is dy itself.
absl::Status BiasAddBackward(const Context& ctx, const Tensor& dy, Tensor dbias);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_BIAS_ADD_BIAS_ADD_H_
