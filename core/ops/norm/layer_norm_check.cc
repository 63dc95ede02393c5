#include "core/ops/norm/layer_norm_check.h"

#include "core/ops/norm/layer_norm.h"

namespace strake {
namespace {

// The errors are those of a sum, means over a row, and a few operations on each element. In bf16
// the norm may be that of the stored, rounded sum with the residual: each element, and the row's
// statistics, start from it.
OpCheck ForwardCheck(const OpCall& call) {
  const bool residual = call.Has("residual");
  const double width = static_cast<double>(call.ShapeOf("x")[1]);
  const double roundings = residual ? 10 : 8, stores = residual ? 1 : 0;
  const Rounding statistic = {width, roundings, stores};
  OpCheck check = {.tensors = {residual ? InOut(call, "x", {0, 1}) : In(call, "x", kResidualMean),
                               In(call, "weight", 1, 0.1), In(call, "bias", 0, 0.1),
                               Out(call, "y", {width, roundings, 2 * stores}),
                               Out(call, "mean", statistic), Out(call, "rstd", statistic)}};
  // The sum replaces x.
  if (residual) check.tensors.push_back(In(call, "residual", kResidualMean));
  check.run = [residual, eps = call.Get("eps")](const Context& ctx, const Tensors& t) {
    return LayerNormForward(ctx,
                            {.x = t[0],
                             .residual = residual ? t.back() : Tensor(),
                             .weight = t[1],
                             .bias = t[2],
                             .sum = residual ? t[0] : Tensor(),
                             .y = t[3],
                             .mean = t[4],
                             .rstd = t[5]},
                            eps);
  };
  return check;
}

// The gradients of weight and bias alone.
OpCheck BackwardWeightCheck(const OpCall& call) {
  const double rows = static_cast<double>(call.ShapeOf("x")[0]);
  return {.tensors = {In(call, "x", kResidualMean), In(call, "weight", 1, 0.1),
                      In(call, "rstd", 1, 0.1), In(call, "mean", kResidualMean, 0.1),
                      In(call, "dy"), Grad(call, "dweight", rows, 8), Grad(call, "dbias", rows, 8)},
          .run = [](const Context& ctx, const Tensors& t) {
            return LayerNormBackward(ctx,
                                     {.dy = t[4],
                                      .x = t[0],
                                      .weight = t[1],
                                      .mean = t[3],
                                      .rstd = t[2],
                                      .dweight = t[5],
                                      .dbias = t[6]},
                                     /*accumulate_dx=*/false);
          }};
}

// In a block, dx accumulates the residual stream's gradient; otherwise it replaces dy. Frozen
// parameters have no gradients.
OpCheck BackwardCheck(const OpCall& call) {
  constexpr double kEps = 1e-5;
  const double width = static_cast<double>(call.ShapeOf("x")[1]);
  const double rows = static_cast<double>(call.ShapeOf("x")[0]);
  const Rounding rounding = {width, 8};
  const bool accumulate = call.Find("dx")->role == OpRole::kInOut;
  const bool trained = call.Has("dweight");
  OpCheck check = {.tensors = {In(call, "x", kResidualMean), In(call, "weight", 1, 0.1),
                               In(call, "rstd"), In(call, "mean")}};
  if (trained) {
    check.tensors.push_back(Grad(call, "dweight", rows, 8));
    check.tensors.push_back(Grad(call, "dbias", rows, 8));
  }
  if (accumulate) check.tensors.push_back(In(call, "dy"));
  check.tensors.push_back(InOut(call, "dx", rounding));
  check.prepare = [](const Context& ctx, const Tensors& t) {
    const Tensor y = ctx.arena().Allocate(t[0].dtype(), t[0].shape());
    return LayerNormForward(
        ctx, {.x = t[0], .weight = t[1], .bias = t[1], .y = y, .mean = t[3], .rstd = t[2]}, kEps);
  };
  check.run = [accumulate, trained](const Context& ctx, const Tensors& t) {
    return LayerNormBackward(ctx,
                             {.dy = accumulate ? t[t.size() - 2] : t.back(),
                              .x = t[0],
                              .weight = t[1],
                              .mean = t[3],
                              .rstd = t[2],
                              .dx = t.back(),
                              .dweight = trained ? t[4] : Tensor(),
                              .dbias = trained ? t[5] : Tensor()},
                             accumulate);
  };
  return check;
}

}  // namespace

OpCheck LayerNormCheck(const OpCall& call) {
  if (!call.Has("dy")) return ForwardCheck(call);
  return call.Has("dx") ? BackwardCheck(call) : BackwardWeightCheck(call);
}

}  // namespace strake
