// Norm: LayerNorm or RMSNorm with its learned parameters.
//
//   N tokens, C features          in              out
//   Forward                       x [N, C]        x += residual [N, C], where there is one
//                                                 y [N, C] = norm(x) * weight (+ bias)
//   Backward                      dy [N, C]       dx [N, C] = or +=, weight and bias gradients +=
//
// The input and the weight pass are one call, because one reading of dy and x serves both; the
// residual is added in the forward pass's reading of x. dtypes: f32; bf16, with mean, rstd
// and gradients of parameters in f32; f64 and c128 on the reference path. Otherwise all tensors
// share one.
#ifndef STRAKE_CORE_NN_NORM_H_
#define STRAKE_CORE_NN_NORM_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/device/context.h"
#include "core/memory/parameter.h"
#include "core/tensor/tensor.h"

namespace strake {

struct NormSaved {
  Tensor x;     // [N, C], with the residual
  Tensor mean;  // [N]; undefined for RMSNorm
  Tensor rstd;  // [N]
};

class Norm {
 public:
  // With a bias it is a LayerNorm (core/ops/norm/layer_norm.h), with null an RMSNorm
  // (core/ops/norm/rms_norm.h). Both [C] and must outlive the layer.
  Norm(const Parameter* weight, const Parameter* bias, double eps)
      : weight_(weight), bias_(bias), eps_(eps) {}

  // What records call the layer; null, as at first: what they call its user.
  void set_layer(const char* layer) { layer_ = layer; }

  // `residual` may be undefined: then x stays as it is. y and the statistics in `saved` are
  // allocated from ctx.arena().
  absl::StatusOr<Tensor> Forward(const Context& ctx, Tensor x, const Tensor& residual,
                                 NormSaved* saved) const;

  // dx is the gradient of x with the residual, which is that of both terms. It may be dy without
  // `accumulate_dx`. Announces each gradient with ctx.GradReady(): bias, then weight.
  absl::Status Backward(const Context& ctx, const Tensor& dy, const NormSaved& saved,
                        bool accumulate_dx, Tensor dx) const;

 private:
  const Parameter* weight_;
  const Parameter* bias_;
  double eps_;
  const char* layer_ = nullptr;
};

}  // namespace strake

#endif  // STRAKE_CORE_NN_NORM_H_
