#include "core/ops/norm/rms_norm.h"

#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/norm/rms_norm_cpu.h"
#include "core/ops/norm/rms_norm_cuda.h"
#include "core/ops/norm/rms_norm_reference.h"
#include "glog/logging.h"

namespace strake {
namespace {

void CheckShapes(const char* op, const Tensor& x, const Tensor& weight, const Tensor& y,
                 const Tensor& rstd) {
  CHECK(x.rank() == 2 && y.shape() == x.shape() && weight.shape() == Shape{x.dim(1)} &&
        rstd.shape() == Shape{x.dim(0)} && weight.dtype() == x.dtype() && y.dtype() == x.dtype() &&
        rstd.dtype() == AccumulationDType(x.dtype()))
      << "[" << op << "] x " << x.ToString() << ", y or gradient " << y.ToString() << ", weight "
      << weight.ToString() << ", rstd " << rstd.ToString();
}

}  // namespace

absl::Status RmsNormForward(const Context& ctx, const Tensor& x, const Tensor& residual,
                            const Tensor& weight, double eps, double weight_offset, Tensor sum,
                            Tensor y, Tensor rstd) {
  CheckShapes("rms_norm", x, weight, y, rstd);
  CheckResidual("rms_norm", x, residual, sum);
  const bool on_cuda = OnCuda("rms_norm", ctx, x, residual, weight, sum, y, rstd);
  const OpScope op(ctx, "rms_norm", [&](OpCall& call) {
    call.In("x", x)
        .In("residual", residual)
        .In("weight", weight)
        .Out("sum", sum)
        .Out("y", y)
        .Out("rstd", rstd)
        .Set("eps", eps);
    if (weight_offset != 0) call.Set("weight_offset", weight_offset);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  const auto args_of = [&]<typename T, typename Stat>() -> RmsNormForwardArgs<T, Stat> {
    return {.x = x.data<T>(),
            .residual = RowsOrNull<T>(residual),
            .weight = weight.data<T>(),
            .rows = x.dim(0),
            .columns = x.dim(1),
            .eps = eps,
            .weight_offset = weight_offset,
            .sum = RowsOrNull<T>(sum),
            .y = y.data<T>(),
            .rstd = rstd.data<Stat>()};
  };
  if (on_cuda) {
    return DispatchCuda("rms_norm", x.dtype(), [&]<typename T>() {
      return cuda::RmsNormForward<T>(ctx.cuda_stream(), args_of.template operator()<T, float>());
    });
  }
  const int64_t rows = x.dim(0), grain = RowGrain(x.dim(1));
  const bool done = RunCpuKernels("rms_norm", ctx, x.dtype(), [&]<typename T>() {
    const auto args = args_of.template operator()<T, float>();
    ctx.team().ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(RmsNormForward(args, begin, end));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("rms_norm", x.dtype(), [&]<typename Scalar>() {
    const auto args = args_of.template operator()<Scalar, Scalar>();
    ctx.team().ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      reference::RmsNormForward(args, begin, end);
    });
  });
  return absl::OkStatus();
}

absl::Status RmsNormBackward(const Context& ctx, const Tensor& dy, const Tensor& x,
                             const Tensor& weight, double weight_offset, const Tensor& rstd,
                             bool accumulate_dx, Tensor dx, Tensor dweight) {
  CheckShapes("rms_norm", x, weight, dy, rstd);
  if (dx.defined()) CheckShapes("rms_norm", x, weight, dx, rstd);
  CheckGradient("rms_norm", weight, dweight);
  const bool on_cuda = OnCuda("rms_norm", ctx, dy, x, weight, rstd, dx, dweight);
  const ActivationScope scope(ctx.arena());
  Tensor workspace;
  if (on_cuda) {
    workspace = ctx.arena().Allocate(DType::kF32, {cuda::RmsNormBackwardWorkspaceSize(
                                                      x.dim(0), x.dim(1), DTypeSize(x.dtype()))});
  }
  const OpScope op(ctx, "rms_norm", [&](OpCall& call) {
    call.In("dy", dy).In("x", x).In("weight", weight).In("rstd", rstd);
    accumulate_dx ? call.InOut("dx", dx) : call.Out("dx", dx);
    call.InOut("dweight", dweight);
    if (weight_offset != 0) call.Set("weight_offset", weight_offset);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  const auto args_of = [&]<typename T, typename Stat>() -> RmsNormBackwardArgs<T, Stat> {
    return {.dy = dy.data<T>(),
            .x = x.data<T>(),
            .weight = weight.data<T>(),
            .rstd = rstd.data<Stat>(),
            .rows = x.dim(0),
            .columns = x.dim(1),
            .weight_offset = weight_offset,
            .accumulate_dx = accumulate_dx,
            .dx = RowsOrNull<T>(dx),
            .dweight = DataOrNull<Stat>(dweight)};
  };
  if (on_cuda) {
    return DispatchCuda("rms_norm", x.dtype(), [&]<typename T>() {
      auto args = args_of.template operator()<T, float>();
      args.workspace = workspace.data<float>();
      return cuda::RmsNormBackward<T>(ctx.cuda_stream(), args);
    });
  }
  const int64_t weight_columns = dweight.defined() ? x.dim(1) : 0;
  const int64_t input_rows = dx.defined() ? x.dim(0) : 0;
  const bool done = RunCpuKernels("rms_norm", ctx, x.dtype(), [&]<typename T>() {
    const auto args = args_of.template operator()<T, float>();
    // Columns first, because dx may overwrite dy.
    ctx.team().ParallelFor(weight_columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(RmsNormBackwardWeight(args, begin, end));
    });
    ctx.team().ParallelFor(input_rows, RowGrain(args.columns), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(RmsNormBackwardInput(args, begin, end));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("rms_norm", x.dtype(), [&]<typename Scalar>() {
    const auto args = args_of.template operator()<Scalar, Scalar>();
    // Columns first, because dx may overwrite dy.
    ctx.team().ParallelFor(weight_columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      reference::RmsNormBackwardWeight(args, begin, end);
    });
    ctx.team().ParallelFor(input_rows, RowGrain(args.columns), [&](int64_t begin, int64_t end) {
      reference::RmsNormBackwardInput(args, begin, end);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
