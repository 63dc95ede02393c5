#include "core/ops/clip_scale/clip_scale.h"

#include <cmath>

#include "core/ops/clip_scale/clip_scale_cuda.h"
#include "core/ops/dispatch.h"
#include "glog/logging.h"

namespace strake {

absl::Status ClipScale(const Context& ctx, const Tensor& sum, double clip_norm, Tensor clip) {
  CHECK(sum.shape() == Shape{1} && sum.dtype() == DType::kF64 && clip.shape() == Shape{2} &&
        clip.dtype() == DType::kF64)
      << "[clip_scale] sum " << sum.ToString() << ", clip " << clip.ToString();
  CHECK_GE(clip_norm, 0) << "[clip_scale] clip_norm";
  const bool on_cuda = OnCuda("clip_scale", ctx, sum, clip);
  const OpScope op(ctx, "clip_scale", [&](OpCall& call) {
    call.In("sum", sum).Out("clip", clip).Set("clip_norm", clip_norm);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return cuda::ClipScale(
        ctx.cuda_stream(),
        {.sum = sum.data<double>(), .clip_norm = clip_norm, .clip = clip.data<double>()});
  }
  constexpr double kNormEpsilon = 1e-6;
  const double norm = std::sqrt(*sum.data<double>());
  const double scale = clip_norm / (norm + kNormEpsilon);
  clip.data<double>()[0] = norm;
  clip.data<double>()[1] = clip_norm == 0 || scale > 1 ? 1 : scale;  // a NaN stays NaN
  return absl::OkStatus();
}

}  // namespace strake
