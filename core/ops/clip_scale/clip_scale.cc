#include "core/ops/clip_scale/clip_scale.h"

#include <cmath>
#include <cstdint>

#include "core/base/exact_sum.h"
#include "core/ops/clip_scale/clip_scale_cuda.h"
#include "core/ops/dispatch.h"
#include "glog/logging.h"

namespace strake {

namespace {

void CheckShapes(const Tensor& sum, double clip_norm, const Tensor& clip,
                 const Tensor& grad_scale) {
  const auto is_f64 = [](const Tensor& x, const Shape& shape) {
    return x.shape() == shape && x.dtype() == DType::kF64;
  };
  CHECK(sum.shape() == Shape{kExactSumLimbs} && sum.dtype() == DType::kI64 && is_f64(clip, {2}) &&
        (!grad_scale.defined() || is_f64(grad_scale, {1})))
      << "[clip_scale] sum " << sum.ToString() << ", clip " << clip.ToString() << ", grad_scale "
      << grad_scale.ToString();
  CHECK_GE(clip_norm, 0) << "[clip_scale] clip_norm";
}

}  // namespace

absl::Status ClipScale(const Context& ctx, const Tensor& sum, double clip_norm, Tensor clip,
                       const Tensor& grad_scale) {
  CheckShapes(sum, clip_norm, clip, grad_scale);
  const bool on_cuda = OnCuda("clip_scale", ctx, sum, clip, grad_scale);
  const OpScope op(ctx, "clip_scale", [&](OpCall& call) {
    call.In("sum", sum).Out("clip", clip).Set("clip_norm", clip_norm);
    if (grad_scale.defined()) call.In("grad_scale", grad_scale);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  const double* const s = grad_scale.defined() ? grad_scale.data<double>() : nullptr;
  if (on_cuda) {
    return cuda::ClipScale(ctx.cuda_stream(), {.sum = sum.data<int64_t>(),
                                               .grad_scale = s,
                                               .clip_norm = clip_norm,
                                               .clip = clip.data<double>()});
  }
  constexpr double kNormEpsilon = 1e-6;
  const double grads = s == nullptr ? 1 : *s;
  const double norm = grads * std::sqrt(ExactSumToDouble(sum.data<int64_t>()));
  const double scale = clip_norm / (norm + kNormEpsilon);
  clip.data<double>()[0] = norm;
  clip.data<double>()[1] = grads * (clip_norm == 0 || scale > 1 ? 1 : scale);  // a NaN stays NaN
  return absl::OkStatus();
}

}  // namespace strake
