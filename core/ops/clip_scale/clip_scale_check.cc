#include "core/ops/clip_scale/clip_scale_check.h"

#include "core/ops/clip_scale/clip_scale.h"

namespace strake {

// Computed in double; the norm exceeds most limits.
OpCheck ClipScaleCheck(const OpCall& call) {
  constexpr double kSquaredNorm = 9;
  return {.tensors = {In(call, "sum", kSquaredNorm, 0), Out(call, "clip", {0, 1})},
          .run = [clip_norm = call.Get("clip_norm")](const Context& ctx, const Tensors& t) {
            return ClipScale(ctx, t[0], clip_norm, t[1]);
          }};
}

}  // namespace strake
