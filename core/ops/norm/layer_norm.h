// LayerNorm: normalizes each row to mean 0 and variance 1, then applies a learned weight and bias.
//
//   mean[n] = mean_c(x[n,c])
//   rstd[n] = 1 / sqrt(mean_c((x[n,c] - mean[n])^2) + eps)
//   y[n,c]  = (x[n,c] - mean[n]) * rstd[n] * weight[c] + bias[c]
//
// N rows, C columns. dtypes: f32; bf16, with mean, rstd, dweight and dbias in f32; f64 and
// c128 on the reference path. All other tensors share one dtype.
// Source: Ba, Kiros and Hinton, "Layer Normalization", 2016, section 3.
#ifndef STRAKE_CORE_OPS_NORM_LAYER_NORM_H_
#define STRAKE_CORE_OPS_NORM_LAYER_NORM_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// y = [N, C], mean = [N], rstd = [N]: the norm of x + residual, or of x where `residual` is
// undefined. Reads x and residual [N, C], weight [C] and bias [C].
//   sum [N, C]  = x + residual, which is the backward pass's x; undefined without a residual
// y and sum may be x or the residual, but not each other.
struct LayerNormForwardOperands {
  Tensor x;
  Tensor residual = {};
  Tensor weight, bias;
  Tensor sum = {};
  Tensor y, mean, rstd;
};
absl::Status LayerNormForward(const Context& ctx, const LayerNormForwardOperands& operands,
                              double eps);

// From dy, x [N, C], weight [C] and the forward pass's mean and rstd [N]:
//   dx      [N, C]  =, or += with `accumulate_dx`; may be dy without it; undefined: not computed
//   dweight [C]     +=; undefined, with dbias: both are not computed
//   dbias   [C]     +=
// All have the same bits in one call and in two.
//   dbias[c]   += sum_n dy[n,c],   dweight[c] += sum_n dy[n,c] xhat[n,c]
//   dx[n,c]     = rstd[n] (g[n,c] - mean_c(g) - xhat[n,c] mean_c(g xhat)),
//   g = dy * weight, xhat = (x - mean) * rstd
struct LayerNormBackwardOperands {
  Tensor dy, x, weight, mean, rstd;
  Tensor dx = {}, dweight = {}, dbias = {};
};
absl::Status LayerNormBackward(const Context& ctx, const LayerNormBackwardOperands& operands,
                               bool accumulate_dx);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_NORM_LAYER_NORM_H_
