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

absl::Status ForwardOnCuda(const Context& ctx, const Tensor& x, const Tensor& residual,
                           const Tensor& weight, double eps, const Tensor& sum, const Tensor& y,
                           const Tensor& rstd) {
  return DispatchCuda("rms_norm", x.dtype(), [&]<typename T>() {
    return cuda::RmsNormForward<T>(ctx.cuda_stream(), x.data<T>(), RowsOrNull<T>(residual),
                                   weight.data<T>(), x.dim(0), x.dim(1), static_cast<float>(eps),
                                   RowsOrNull<T>(sum), y.data<T>(), rstd.data<float>());
  });
}

absl::Status BackwardOnCuda(const Context& ctx, const Tensor& dy, const Tensor& x,
                            const Tensor& weight, const Tensor& rstd, bool accumulate_dx,
                            const Tensor& dx, const Tensor& dweight, const Tensor& workspace) {
  return DispatchCuda("rms_norm", x.dtype(), [&]<typename T>() {
    return cuda::RmsNormBackward<T>(ctx.cuda_stream(), dy.data<T>(), x.data<T>(), weight.data<T>(),
                                    rstd.data<float>(), x.dim(0), x.dim(1), accumulate_dx,
                                    dx.data<T>(), dweight.data<float>(), workspace.data<float>());
  });
}

}  // namespace

absl::Status RmsNormForward(const Context& ctx, const Tensor& x, const Tensor& residual,
                            const Tensor& weight, double eps, Tensor sum, Tensor y, Tensor rstd) {
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
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) return ForwardOnCuda(ctx, x, residual, weight, eps, sum, y, rstd);
  const int64_t columns = x.dim(1);
  const bool done = RunCpuKernels("rms_norm", ctx, x.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(x.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      const int64_t at = begin * columns;
      STRAKE_CPU_RUN(RmsNormForward(x.data<T>() + at, RowsOrNull<T>(residual, begin),
                                    weight.data<T>(), end - begin, columns, static_cast<float>(eps),
                                    RowsOrNull<T>(sum, begin), y.data<T>() + at,
                                    rstd.data<float>() + begin));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("rms_norm", x.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(x.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      const int64_t at = begin * columns;
      reference::RmsNormForward(x.data<Scalar>() + at, RowsOrNull<Scalar>(residual, begin),
                                weight.data<Scalar>(), end - begin, columns, eps,
                                RowsOrNull<Scalar>(sum, begin), y.data<Scalar>() + at,
                                rstd.data<Scalar>() + begin);
    });
  });
  return absl::OkStatus();
}

absl::Status RmsNormBackward(const Context& ctx, const Tensor& dy, const Tensor& x,
                             const Tensor& weight, const Tensor& rstd, bool accumulate_dx,
                             Tensor dx, Tensor dweight) {
  CheckShapes("rms_norm", x, weight, dy, rstd);
  CheckShapes("rms_norm", x, weight, dx, rstd);
  CheckGradient("rms_norm", weight, dweight);
  const bool on_cuda = OnCuda("rms_norm", ctx, dy, x, weight, rstd, dx, dweight);
  const int64_t rows = x.dim(0), columns = x.dim(1);
  const ActivationScope scope(ctx.arena());
  Tensor workspace;
  if (on_cuda) {
    workspace =
        ctx.arena().Allocate(DType::kF32, {cuda::RmsNormBackwardWorkspaceSize(rows, columns)});
  }
  const OpScope op(ctx, "rms_norm", [&](OpCall& call) {
    call.In("dy", dy).In("x", x).In("weight", weight).In("rstd", rstd);
    accumulate_dx ? call.InOut("dx", dx) : call.Out("dx", dx);
    call.InOut("dweight", dweight);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return BackwardOnCuda(ctx, dy, x, weight, rstd, accumulate_dx, dx, dweight, workspace);
  }
  const bool done = RunCpuKernels("rms_norm", ctx, x.dtype(), [&]<typename T>() {
    // Columns first: dx may overwrite dy.
    ctx.team().ParallelFor(columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(RmsNormBackwardWeight(dy.data<T>(), x.data<T>(), rstd.data<float>(), rows,
                                           columns, begin, end, dweight.data<float>()));
    });
    ctx.team().ParallelFor(rows, RowGrain(columns), [&](int64_t begin, int64_t end) {
      const int64_t at = begin * columns;
      STRAKE_CPU_RUN(RmsNormBackwardInput(dy.data<T>() + at, x.data<T>() + at, weight.data<T>(),
                                          rstd.data<float>() + begin, end - begin, columns,
                                          accumulate_dx, dx.data<T>() + at));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("rms_norm", x.dtype(), [&]<typename Scalar>() {
    // Columns first: dx may overwrite dy.
    ctx.team().ParallelFor(columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      reference::RmsNormBackwardWeight(dy.data<Scalar>(), x.data<Scalar>(), rstd.data<Scalar>(),
                                       rows, columns, begin, end, dweight.data<Scalar>());
    });
    ctx.team().ParallelFor(rows, RowGrain(columns), [&](int64_t begin, int64_t end) {
      const int64_t at = begin * columns;
      reference::RmsNormBackwardInput(dy.data<Scalar>() + at, x.data<Scalar>() + at,
                                      weight.data<Scalar>(), rstd.data<Scalar>() + begin,
                                      end - begin, columns, accumulate_dx, dx.data<Scalar>() + at);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
