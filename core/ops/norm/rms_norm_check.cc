#include "core/ops/norm/rms_norm_check.h"

#include "core/ops/norm/rms_norm.h"

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
                               In(call, "weight", 1, 0.1),
                               Out(call, "y", {width, roundings, 2 * stores}),
                               Out(call, "rstd", statistic)}};
  // The sum replaces x.
  if (residual) check.tensors.push_back(In(call, "residual", kResidualMean));
  check.run = [residual, eps = call.Get("eps"), offset = call.GetOr("weight_offset", 0)](
                  const Context& ctx, const Tensors& t) {
    const Tensor before = residual ? t.back() : Tensor(), sum = residual ? t[0] : Tensor();
    return RmsNormForward(ctx, t[0], before, t[1], eps, offset, sum, t[2], t[3]);
  };
  return check;
}

// A weight's gradient alone.
OpCheck BackwardWeightCheck(const OpCall& call) {
  const double rows = static_cast<double>(call.ShapeOf("x")[0]);
  return {.tensors = {In(call, "x", kResidualMean), In(call, "weight", 1, 0.1),
                      In(call, "rstd", 1, 0.1), In(call, "dy"), Grad(call, "dweight", rows, 8)},
          .run = [](const Context& ctx, const Tensors& t) {
            return RmsNormBackward(ctx, t[3], t[0], t[1], 0, t[2], /*accumulate_dx=*/false,
                                   /*dx=*/{}, t[4]);
          }};
}

// In a block, dx accumulates the residual stream's gradient; otherwise it replaces dy. A frozen
// weight has no gradient.
OpCheck BackwardCheck(const OpCall& call) {
  constexpr double kEps = 1e-5;
  const double offset = call.GetOr("weight_offset", 0);
  const double width = static_cast<double>(call.ShapeOf("x")[1]);
  const double rows = static_cast<double>(call.ShapeOf("x")[0]);
  const Rounding rounding = {width, 8};
  const bool accumulate = call.Find("dx")->role == OpRole::kInOut;
  const bool trained = call.Has("dweight");
  OpCheck check = {.tensors = {In(call, "x", kResidualMean), In(call, "weight", 1 - offset, 0.1),
                               In(call, "rstd")}};
  if (trained) check.tensors.push_back(Grad(call, "dweight", rows, 8));
  if (accumulate) check.tensors.push_back(In(call, "dy"));
  check.tensors.push_back(InOut(call, "dx", rounding));
  check.prepare = [offset](const Context& ctx, const Tensors& t) {
    const Tensor y = ctx.arena().Allocate(t[0].dtype(), t[0].shape());
    return RmsNormForward(ctx, t[0], {}, t[1], kEps, offset, {}, y, t[2]);
  };
  check.run = [accumulate, trained, offset](const Context& ctx, const Tensors& t) {
    const Tensor& dx = t.back();
    const Tensor& dy = accumulate ? t[t.size() - 2] : dx;
    const Tensor dweight = trained ? t[3] : Tensor();
    return RmsNormBackward(ctx, dy, t[0], t[1], offset, t[2], accumulate, dx, dweight);
  };
  return check;
}

}  // namespace

OpCheck RmsNormCheck(const OpCall& call) {
  if (!call.Has("dy")) return ForwardCheck(call);
  return call.Has("dx") ? BackwardCheck(call) : BackwardWeightCheck(call);
}

}  // namespace strake
