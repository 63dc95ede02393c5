// RMSNorm: scales each row to unit root mean square, then by a learned weight.
//
//   rstd[n] = 1 / sqrt(mean_c(x[n,c]^2) + eps)
//   y[n,c]  = x[n,c] * rstd[n] * (weight_offset + weight[c])
//
// N rows, C columns. weight_offset: 0, or 1 where weights are learned as their distance from 1; it
// is added in the type of the sums. dtypes: f32; bf16, with rstd and dweight in f32; f64 and c128
// on the reference path. All other tensors share one dtype. Sources: Zhang and Sennrich, "Root Mean
// Square Layer Normalization", 2019, section 4; weight_offset: the code released with Gemma Team,
// "Gemma: Open Models Based on Gemini Research and Technology", 2024.
#ifndef STRAKE_CORE_OPS_NORM_RMS_NORM_H_
#define STRAKE_CORE_OPS_NORM_RMS_NORM_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// y = [N, C], rstd = [N]: the norm of x + residual, or of x where `residual` is undefined. Reads x
// and residual [N, C] and weight [C].
//   sum [N, C]  = x + residual, which is the backward pass's x; undefined without a residual
// y and sum may be x or the residual, but not each other.
absl::Status RmsNormForward(const Context& ctx, const Tensor& x, const Tensor& residual,
                            const Tensor& weight, double eps, double weight_offset, Tensor sum,
                            Tensor y, Tensor rstd);

// From dy, x [N, C], weight [C] and the forward pass's rstd [N]:
//   dx      [N, C]  =, or += with `accumulate_dx`; may be dy without it; undefined: not computed
//   dweight [C]     +=; undefined: not computed
// Both have the same bits in one call and in two.
//   dweight[c] += sum_n dy[n,c] x[n,c] rstd[n]
//   dx[n,c]     = rstd[n] (g[n,c] - xhat[n,c] mean_c(g xhat)),  g = dy (weight_offset + weight),
//   xhat = x rstd
absl::Status RmsNormBackward(const Context& ctx, const Tensor& dy, const Tensor& x,
                             const Tensor& weight, double weight_offset, const Tensor& rstd,
                             bool accumulate_dx, Tensor dx, Tensor dweight);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_NORM_RMS_NORM_H_
