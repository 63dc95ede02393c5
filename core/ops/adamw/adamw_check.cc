#include "core/ops/adamw/adamw_check.h"

#include <utility>

#include "core/ops/adamw/adamw.h"
#include "core/ops/copy/copy.h"

namespace strake {

// The errors are those of a few operations on each element. In the f64 run the rounded bf16 weights
// are the weights themselves.
OpCheck AdamWCheck(const OpCall& call) {
  const bool clips = call.Has("clip"), rounds = call.Has("rounded");
  OpCheck check = {.tensors = {In(call, "grad"), InOut(call, "weight", {0, 12}, 0, kWeightStddev),
                               InOut(call, "exp_avg", {0, 4}),
                               InOut(call, "exp_avg_sq", {0, 5}, 1, 0.1), In(call, "scalars")}};
  if (clips) check.tensors.push_back(In(call, "clip"));
  if (rounds) check.tensors.push_back(Out(call, "rounded", {0, 12}));
  check.run = [clips, rounds, weight_decay = call.Get("weight_decay") != 0](const Context& ctx,
                                                                            const Tensors& t) {
    const bool truth = t[1].dtype() == DType::kF64;
    const absl::Status status = AdamWUpdate(ctx,
                                            {.scalars = t[4],
                                             .clip = clips ? t[5] : Tensor(),
                                             .grad = t[0],
                                             .weight = t[1],
                                             .exp_avg = t[2],
                                             .exp_avg_sq = t[3],
                                             .rounded = rounds && !truth ? t.back() : Tensor()},
                                            weight_decay);
    return status.ok() && rounds && truth ? Copy(ctx, t[1], t.back()) : status;
  };
  check.prepare = [clips](const Context& ctx, const Tensors& t) {
    if (ctx.dry_run()) return absl::OkStatus();
    SetAdamWScalars({.lr = 0.01, .weight_decay = 0.1, .step = 3}, t[4]);
    if (clips) {
      t[5].data<double>()[0] = 2;    // the norm
      t[5].data<double>()[1] = 0.5;  // the factor
    }
    return absl::OkStatus();
  };
  return check;
}

}  // namespace strake
