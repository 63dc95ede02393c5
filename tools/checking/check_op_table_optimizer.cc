#include <utility>

#include "core/ops/adamw/adamw.h"
#include "core/ops/clip_scale/clip_scale.h"
#include "core/ops/copy/copy.h"
#include "core/ops/squared_norm/squared_norm.h"
#include "tools/checking/check_op_table.h"

namespace strake {

// Both in double.
void OpTable::AddClipping() {
  constexpr double kClipNorm = 1, kSquaredNorm = 9;
  Add({.op = "squared_norm",
       .pass = Pass::kOptimizer,
       .layers = "clipping",
       .tensors = {Sum(In("grad", {vocab_width(), c_.hidden_size})), F64(Out("sum", {1}, {0, 1}))},
       .run = [](const Context& ctx, const Tensors& t) {
         return SquaredNormForward(ctx, t[0], t[1]);
       }});
  Add({.op = "clip_scale",
       .pass = Pass::kOptimizer,
       .layers = "clipping",
       .tensors = {F64(In("sum", {1}, kSquaredNorm, 0)), F64(Out("clip", {2}, {0, 1}))},
       .run = [](const Context& ctx, const Tensors& t) {
         return ClipScale(ctx, t[0], kClipNorm, t[1]);
       }});
}

// A few operations on each element. The rounded weights of bf16 are, in f64, the weights.
void OpTable::AddAdamW(const std::string& layer, Shape shape, bool weight_decay) {
  OpCheck check = {.op = "adamw",
                   .pass = Pass::kOptimizer,
                   .layers = layer,
                   .tensors = {Sum(In("grad", shape)), Sum(InOut(Weight("weight", shape), {0, 12})),
                               Sum(InOut(In("exp_avg", shape), {0, 4})),
                               Sum(InOut(In("exp_avg_sq", shape, 1, 0.1), {0, 5})),
                               Sum(In("scalars", {kNumAdamWScalars})), F64(In("clip", {2}))}};
  if (bf16_) check.tensors.push_back(Out("rounded", std::move(shape), {0, 12}));
  check.run = [bf16 = bf16_, weight_decay](const Context& ctx, const Tensors& t) {
    const bool truth = t[1].dtype() == DType::kF64;
    const Tensor rounded = bf16 && !truth ? t[6] : Tensor();
    const absl::Status status = AdamWUpdate(ctx,
                                            {.scalars = t[4],
                                             .clip = t[5],
                                             .grad = t[0],
                                             .weight = t[1],
                                             .exp_avg = t[2],
                                             .exp_avg_sq = t[3],
                                             .rounded = rounded},
                                            weight_decay);
    return status.ok() && bf16 && truth ? Copy(ctx, t[1], t[6]) : status;
  };
  check.prepare = [](const Context& ctx, const Tensors& t) {
    if (ctx.dry_run()) return absl::OkStatus();
    SetAdamWScalars({.lr = 0.01, .weight_decay = 0.1, .step = 3}, t[4]);
    t[5].data<double>()[0] = 2;    // the norm
    t[5].data<double>()[1] = 0.5;  // the factor
    return absl::OkStatus();
  };
  Add(std::move(check), weight_decay ? "decayed" : "");
}

}  // namespace strake
