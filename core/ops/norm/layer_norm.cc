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
          .dx = RowsOrNull<T>(o.dx),
          .dweight = DataOrNull<Stat>(o.dweight),
          .dbias = DataOrNull<Stat>(o.dbias)};
}

}  // namespace

absl::Status LayerNormForward(const Context& ctx, const LayerNormForwardOperands& o, double eps) {
  CheckShapes(o.x, o.weight, o.bias, o.y, o.mean, o.rstd);
  CheckResidual("layer_norm", o.x, o.residual, o.sum);
  const bool on_cuda =
      OnCuda("layer_norm", ctx, o.x, o.residual, o.weight, o.bias, o.sum, o.y, o.mean, o.rstd);
  const OpScope op(ctx, "layer_norm", [&](OpCall& call) {
    call.In("x", o.x)
        .In("residual", o.residual)
        .In("weight", o.weight)
        .In("bias", o.bias)
        .Out("sum", o.sum)
        .Out("y", o.y)
        .Out("mean", o.mean)
        .Out("rstd", o.rstd)
        .Set("eps", eps);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return DispatchCuda("layer_norm", o.x.dtype(), [&]<typename T>() {
      return cuda::LayerNormForward<T>(ctx.cuda_stream(), Args<T>(o, eps));
    });
  }
  const int64_t rows = o.x.dim(0), grain = RowGrain(o.x.dim(1));
  const bool done = RunCpuKernels("layer_norm", ctx, o.x.dtype(), [&]<typename T>() {
    const auto args = Args<T>(o, eps);
    ctx.team().ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(LayerNormForward(args, begin, end));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("layer_norm", o.x.dtype(), [&]<typename Scalar>() {
    const auto args = Args<Scalar, Scalar>(o, eps);
    ctx.team().ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      reference::LayerNormForward(args, begin, end);
    });
  });
  return absl::OkStatus();
}

absl::Status LayerNormBackward(const Context& ctx, const LayerNormBackwardOperands& o,
                               bool accumulate_dx) {
  CheckShapes(o.x, o.weight, o.weight, o.dy, o.mean, o.rstd);
  if (o.dx.defined()) CheckShapes(o.x, o.weight, o.weight, o.dx, o.mean, o.rstd);
  CheckGradient("layer_norm", o.weight, o.dweight);
  CheckGradient("layer_norm", o.weight, o.dbias);
  CHECK_EQ(o.dweight.defined(), o.dbias.defined()) << "[layer_norm] gradients of weight, bias";
  const bool on_cuda =
      OnCuda("layer_norm", ctx, o.dy, o.x, o.weight, o.mean, o.rstd, o.dx, o.dweight, o.dbias);
  const ActivationScope scope(ctx.arena());
  Tensor workspace;
  if (on_cuda) {
    workspace = ctx.arena().Allocate(
        DType::kF32,
        {cuda::LayerNormBackwardWorkspaceSize(o.x.dim(0), o.x.dim(1), DTypeSize(o.x.dtype()))});
  }
  const OpScope op(ctx, "layer_norm", [&](OpCall& call) {
    call.In("dy", o.dy).In("x", o.x).In("weight", o.weight).In("mean", o.mean).In("rstd", o.rstd);
    accumulate_dx ? call.InOut("dx", o.dx) : call.Out("dx", o.dx);
    call.InOut("dweight", o.dweight).InOut("dbias", o.dbias);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return DispatchCuda("layer_norm", o.x.dtype(), [&]<typename T>() {
      auto args = Args<T>(o, accumulate_dx);
      args.workspace = workspace.data<float>();
      return cuda::LayerNormBackward<T>(ctx.cuda_stream(), args);
    });
  }
  const int64_t weight_columns = o.dweight.defined() ? o.x.dim(1) : 0;
  const int64_t input_rows = o.dx.defined() ? o.x.dim(0) : 0;
  const bool done = RunCpuKernels("layer_norm", ctx, o.x.dtype(), [&]<typename T>() {
    const auto args = Args<T>(o, accumulate_dx);
    // Columns first, because dx may overwrite dy.
    ctx.team().ParallelFor(weight_columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(LayerNormBackwardWeight(args, begin, end));
    });
    ctx.team().ParallelFor(input_rows, RowGrain(args.columns), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(LayerNormBackwardInput(args, begin, end));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("layer_norm", o.x.dtype(), [&]<typename Scalar>() {
    const auto args = Args<Scalar, Scalar>(o, accumulate_dx);
    // Columns first, because dx may overwrite dy.
    ctx.team().ParallelFor(weight_columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      reference::LayerNormBackwardWeight(args, begin, end);
    });
    ctx.team().ParallelFor(input_rows, RowGrain(args.columns), [&](int64_t begin, int64_t end) {
      reference::LayerNormBackwardInput(args, begin, end);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
