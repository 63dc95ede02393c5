#include "core/ops/norm/layer_norm.h"

#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/norm/layer_norm_cpu.h"
#include "core/ops/norm/layer_norm_cuda.h"
#include "core/ops/norm/layer_norm_reference.h"
#include "glog/logging.h"

namespace strake {
namespace {

// `y` is the output or a gradient; with a gradient, `weight` stands for the bias, too.
void CheckShapes(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& y,
                 const Tensor& mean, const Tensor& rstd) {
  const DType statistics = AccumulationDType(x.dtype());
  CHECK(x.rank() == 2 && y.shape() == x.shape() && weight.shape() == Shape{x.dim(1)} &&
        bias.shape() == weight.shape() && mean.shape() == Shape{x.dim(0)} &&
        rstd.shape() == mean.shape() && weight.dtype() == x.dtype() && bias.dtype() == x.dtype() &&
        y.dtype() == x.dtype() && mean.dtype() == statistics && rstd.dtype() == statistics)
      << "[layer_norm] x " << x.ToString() << ", y or gradient " << y.ToString() << ", weight "
      << weight.ToString() << ", bias " << bias.ToString() << ", mean " << mean.ToString()
      << ", rstd " << rstd.ToString();
}

template <typename T, typename Stat = float>
LayerNormForwardArgs<T, Stat> Args(const LayerNormForwardOperands& o, double eps) {
  return {.x = o.x.data<T>(),
          .residual = RowsOrNull<T>(o.residual),
          .weight = o.weight.data<T>(),
          .bias = o.bias.data<T>(),
          .rows = o.x.dim(0),
          .columns = o.x.dim(1),
          .eps = eps,
          .sum = RowsOrNull<T>(o.sum),
          .y = o.y.data<T>(),
          .mean = o.mean.data<Stat>(),
          .rstd = o.rstd.data<Stat>()};
}

template <typename T, typename Stat = float>
LayerNormBackwardArgs<T, Stat> Args(const LayerNormBackwardOperands& o, bool accumulate_dx) {
  return {.dy = o.dy.data<T>(),
          .x = o.x.data<T>(),
          .weight = o.weight.data<T>(),
          .mean = o.mean.data<Stat>(),
          .rstd = o.rstd.data<Stat>(),
          .rows = o.x.dim(0),
          .columns = o.x.dim(1),
          .accumulate_dx = accumulate_dx,
          .dx = o.dx.data<T>(),
          .dweight = o.dweight.data<Stat>(),
          .dbias = o.dbias.data<Stat>()};
}

}  // namespace

absl::Status LayerNormForward(const Context& ctx, const LayerNormForwardOperands& operands,
                              double eps) {
  const auto& [x, residual, weight, bias, sum, y, mean, rstd] = operands;
  CheckShapes(x, weight, bias, y, mean, rstd);
  CheckResidual("layer_norm", x, residual, sum);
  const bool on_cuda = OnCuda("layer_norm", ctx, x, residual, weight, bias, sum, y, mean, rstd);
  const OpScope op(ctx, "layer_norm", [&](OpCall& call) {
    call.In("x", x)
        .In("residual", residual)
        .In("weight", weight)
        .In("bias", bias)
        .Out("sum", sum)
        .Out("y", y)
        .Out("mean", mean)
        .Out("rstd", rstd)
        .Set("eps", eps);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return DispatchCuda("layer_norm", x.dtype(), [&]<typename T>() {
      return cuda::LayerNormForward<T>(ctx.cuda_stream(), Args<T>(operands, eps));
    });
  }
  const int64_t rows = x.dim(0), grain = RowGrain(x.dim(1));
  const bool done = RunCpuKernels("layer_norm", ctx, x.dtype(), [&]<typename T>() {
    const auto args = Args<T>(operands, eps);
    ctx.team().ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(LayerNormForward(args, begin, end));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("layer_norm", x.dtype(), [&]<typename Scalar>() {
    const auto args = Args<Scalar, Scalar>(operands, eps);
    ctx.team().ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      reference::LayerNormForward(args, begin, end);
    });
  });
  return absl::OkStatus();
}

absl::Status LayerNormBackward(const Context& ctx, const LayerNormBackwardOperands& operands,
                               bool accumulate_dx) {
  const auto& [dy, x, weight, mean, rstd, dx, dweight, dbias] = operands;
  CheckShapes(x, weight, weight, dy, mean, rstd);
  CheckShapes(x, weight, weight, dx, mean, rstd);
  CheckGradient("layer_norm", weight, dweight);
  CheckGradient("layer_norm", weight, dbias);
  const bool on_cuda = OnCuda("layer_norm", ctx, dy, x, weight, mean, rstd, dx, dweight, dbias);
  const ActivationScope scope(ctx.arena());
  Tensor workspace;
  if (on_cuda) {
    workspace = ctx.arena().Allocate(DType::kF32,
                                     {cuda::LayerNormBackwardWorkspaceSize(x.dim(0), x.dim(1))});
  }
  const OpScope op(ctx, "layer_norm", [&](OpCall& call) {
    call.In("dy", dy).In("x", x).In("weight", weight).In("mean", mean).In("rstd", rstd);
    accumulate_dx ? call.InOut("dx", dx) : call.Out("dx", dx);
    call.InOut("dweight", dweight).InOut("dbias", dbias);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return DispatchCuda("layer_norm", x.dtype(), [&]<typename T>() {
      auto args = Args<T>(operands, accumulate_dx);
      args.workspace = workspace.data<float>();
      return cuda::LayerNormBackward<T>(ctx.cuda_stream(), args);
    });
  }
  const bool done = RunCpuKernels("layer_norm", ctx, x.dtype(), [&]<typename T>() {
    const auto args = Args<T>(operands, accumulate_dx);
    // Columns first, because dx may overwrite dy.
    ctx.team().ParallelFor(args.columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(LayerNormBackwardWeight(args, begin, end));
    });
    ctx.team().ParallelFor(args.rows, RowGrain(args.columns), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(LayerNormBackwardInput(args, begin, end));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("layer_norm", x.dtype(), [&]<typename Scalar>() {
    const auto args = Args<Scalar, Scalar>(operands, accumulate_dx);
    // Columns first, because dx may overwrite dy.
    ctx.team().ParallelFor(args.columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      reference::LayerNormBackwardWeight(args, begin, end);
    });
    ctx.team().ParallelFor(args.rows, RowGrain(args.columns), [&](int64_t begin, int64_t end) {
      reference::LayerNormBackwardInput(args, begin, end);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
