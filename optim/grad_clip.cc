#include "optim/grad_clip.h"

#include <cmath>

#include "core/base/status_macros.h"
#include "core/ops/squared_norm.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr double kNormEpsilon = 1e-6;

double ClipScale(double norm, double clip_norm) {
  if (clip_norm == 0) return 1;
  const double scale = clip_norm / (norm + kNormEpsilon);
  return scale > 1 ? 1 : scale;  // a NaN stays one
}

}  // namespace

absl::StatusOr<GradClip> ClipGradNorm(const Context& ctx, const Tensor& grads, double clip_norm,
                                      Communicator& communicator) {
  CHECK_GE(clip_norm, 0) << "[grad_clip] clip_norm";
  CHECK(grads.dtype() == DType::kF32 || grads.dtype() == DType::kF64)
      << "[grad_clip] grads " << grads.ToString();
  double sum = 0;
  const Tensor sum_tensor(&sum, DType::kF64, {1});
  STRAKE_RETURN_IF_ERROR(SquaredNormForward(ctx, grads, sum_tensor));
  STRAKE_RETURN_IF_ERROR(communicator.AllReduceSum(sum_tensor).Wait().status());
  const double norm = std::sqrt(sum);
  return GradClip{.norm = norm, .scale = ClipScale(norm, clip_norm)};
}

}  // namespace strake
