#include "core/ops/clip_scale/clip_scale_check.h"

#include <cstdint>

#include "core/base/exact_sum.h"
#include "core/ops/clip_scale/clip_scale.h"

namespace strake {

// Computed in double; the norm exceeds most limits.
OpCheck ClipScaleCheck(const OpCall& call) {
  OpCheck check = {
      .tensors = {In(call, "sum"), Out(call, "clip", {0, 1})},
      .run = [clip_norm = call.Get("clip_norm")](const Context& ctx, const Tensors& t) {
        return ClipScale(ctx, t[0], clip_norm, t[1], t.size() > 2 ? t[2] : Tensor());
      }};
  check.prepare = [](const Context& ctx, const Tensors& t) {
    constexpr double kSquaredNorm = 9;
    if (!ctx.dry_run()) AddToExactSum(kSquaredNorm, t[0].data<int64_t>());
    return absl::OkStatus();
  };
  if (call.Has("grad_scale")) check.tensors.push_back(In(call, "grad_scale", 1.5, 0));
  return check;
}

}  // namespace strake
