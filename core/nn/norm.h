// Norm: LayerNorm or RMSNorm with its learned parameters.
//
//   N tokens, C features          in              out
//   Forward                       x [N, C]        x += residual [N, C], where there is one
//                                                 y [N, C] = norm(x) * (weight_offset + weight) (+
//                                                 bias)
//   Backward                      dy [N, C]       dx [N, C] = or +=, weight and bias gradients +=
//   BackwardInput                 dy [N, C]       dx [N, C] = or +=
//   BackwardWeight                its dy          weight and bias gradients +=
//
// Backward computes the gradients of input and weight, because one reading of dy and x serves both;
// the two passes apart, one after the other, give the same bits. The forward pass adds the residual
// while it reads x. dtypes: f32; bf16, with mean, rstd and
// gradients of parameters in f32; f64 and c128 on the reference path. All other tensors share one
// dtype. Frozen parameters have no gradients.
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
  Tensor dy;    // [N, C]; BackwardInput() leaves it to BackwardWeight()
};

class Norm {
 public:
  // A norm with a bias is a LayerNorm (core/ops/norm/layer_norm.h), one with null an RMSNorm
  // (core/ops/norm/rms_norm.h). A LayerNorm takes no `weight_offset`. weight and bias are [C] and
  // must outlive the layer.
  Norm(const Parameter* weight, const Parameter* bias, double eps, double weight_offset = 0);

  // Sets the layer's name in records; null (the default) keeps the name of its user.
  void set_layer(const char* layer) { layer_ = layer; }

  // Returns whether its parameters have gradients.
  bool trained() const { return !weight_->frozen; }

  // If `residual` is undefined, x stays as it is. y and the statistics in `saved` are allocated
  // from ctx.arena().
  absl::StatusOr<Tensor> Forward(const Context& ctx, Tensor x, const Tensor& residual,
                                 NormSaved* saved) const;

  // dx is the gradient of x with the residual added, which is the gradient of both terms. Without
  // `accumulate_dx` it may be dy. Calls ctx.GradReady() for each gradient: bias, then weight.
  absl::Status Backward(const Context& ctx, const Tensor& dy, const NormSaved& saved,
                        bool accumulate_dx, Tensor dx) const;

  // dx as from Backward(). The memory of dy must stay until BackwardWeight(), so dx may be dy only
  // where the parameters are frozen.
  absl::Status BackwardInput(const Context& ctx, const Tensor& dy, bool accumulate_dx, Tensor dx,
                             NormSaved* saved) const;
  // Calls ctx.GradReady() as Backward() does.
  absl::Status BackwardWeight(const Context& ctx, const NormSaved& saved) const;

 private:
  // Either of dx and dweight, with dbias, may be undefined.
  absl::Status Run(const Context& ctx, const Tensor& dy, const NormSaved& saved, bool accumulate_dx,
                   const Tensor& dx, const Tensor& dweight, const Tensor& dbias) const;
  void Announce(const Context& ctx) const;

  const Parameter* weight_;
  const Parameter* bias_;
  double eps_, weight_offset_;
  const char* layer_ = nullptr;
};

}  // namespace strake

#endif  // STRAKE_CORE_NN_NORM_H_
