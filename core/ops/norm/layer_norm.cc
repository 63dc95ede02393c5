#include "core/ops/norm/layer_norm.h"

#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/norm/layer_norm_cpu.h"
#include "core/ops/norm/layer_norm_cuda.h"
#include "core/ops/norm/layer_norm_reference.h"
#include "glog/logging.h"

namespace strake {
namespace {

// `y` is the output or a gradient; there, `weight` stands for the bias too.
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

absl::Status ForwardOnCuda(const Context& ctx, const Tensor& x, const Tensor& residual,
                           const Tensor& weight, const Tensor& bias, double eps, const Tensor& sum,
                           const Tensor& y, const Tensor& mean, const Tensor& rstd) {
  return DispatchCuda("layer_norm", x.dtype(), [&]<typename T>() {
    return cuda::LayerNormForward<T>(ctx.cuda_stream(), x.data<T>(), RowsOrNull<T>(residual),
                                     weight.data<T>(), bias.data<T>(), x.dim(0), x.dim(1),
                                     static_cast<float>(eps), RowsOrNull<T>(sum), y.data<T>(),
                                     mean.data<float>(), rstd.data<float>());
  });
}

absl::Status BackwardOnCuda(const Context& ctx, const Tensor& dy, const Tensor& x,
                            const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                            bool accumulate_dx, const Tensor& dx, const Tensor& dweight,
                            const Tensor& dbias, const Tensor& workspace) {
  return DispatchCuda("layer_norm", x.dtype(), [&]<typename T>() {
    return cuda::LayerNormBackward<T>(
        ctx.cuda_stream(), dy.data<T>(), x.data<T>(), weight.data<T>(), mean.data<float>(),
        rstd.data<float>(), x.dim(0), x.dim(1), accumulate_dx, dx.data<T>(), dweight.data<float>(),
        dbias.data<float>(), workspace.data<float>());
  });
}

}  // namespace

absl::Status LayerNormForward(const Context& ctx, const Tensor& x, const Tensor& residual,
                              const Tensor& weight, const Tensor& bias, double eps, Tensor sum,
                              Tensor y, Tensor mean, Tensor rstd) {
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
  if (on_cuda) return ForwardOnCuda(ctx, x, residual, weight, bias, eps, sum, y, mean, rstd);
  const int64_t columns = x.dim(1);
  const bool done = RunCpuKernels("layer_norm", ctx, x.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(x.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      const int64_t at = begin * columns;
      STRAKE_CPU_RUN(LayerNormForward(
          x.data<T>() + at, RowsOrNull<T>(residual, begin), weight.data<T>(), bias.data<T>(),
          end - begin, columns, static_cast<float>(eps), RowsOrNull<T>(sum, begin),
          y.data<T>() + at, mean.data<float>() + begin, rstd.data<float>() + begin));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("layer_norm", x.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(x.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      const int64_t at = begin * columns;
      reference::LayerNormForward(x.data<Scalar>() + at, RowsOrNull<Scalar>(residual, begin),
                                  weight.data<Scalar>(), bias.data<Scalar>(), end - begin, columns,
                                  eps, RowsOrNull<Scalar>(sum, begin), y.data<Scalar>() + at,
                                  mean.data<Scalar>() + begin, rstd.data<Scalar>() + begin);
    });
  });
  return absl::OkStatus();
}

absl::Status LayerNormBackward(const Context& ctx, const Tensor& dy, const Tensor& x,
                               const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                               bool accumulate_dx, Tensor dx, Tensor dweight, Tensor dbias) {
  CheckShapes(x, weight, weight, dy, mean, rstd);
  CheckShapes(x, weight, weight, dx, mean, rstd);
  CheckGradient("layer_norm", weight, dweight);
  CheckGradient("layer_norm", weight, dbias);
  const bool on_cuda = OnCuda("layer_norm", ctx, dy, x, weight, mean, rstd, dx, dweight, dbias);
  const int64_t rows = x.dim(0), columns = x.dim(1);
  const ActivationScope scope(ctx.arena());
  Tensor workspace;
  if (on_cuda) {
    workspace =
        ctx.arena().Allocate(DType::kF32, {cuda::LayerNormBackwardWorkspaceSize(rows, columns)});
  }
  const OpScope op(ctx, "layer_norm", [&](OpCall& call) {
    call.In("dy", dy).In("x", x).In("weight", weight).In("mean", mean).In("rstd", rstd);
    accumulate_dx ? call.InOut("dx", dx) : call.Out("dx", dx);
    call.InOut("dweight", dweight).InOut("dbias", dbias);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return BackwardOnCuda(ctx, dy, x, weight, mean, rstd, accumulate_dx, dx, dweight, dbias,
                          workspace);
  }
  const bool done = RunCpuKernels("layer_norm", ctx, x.dtype(), [&]<typename T>() {
    // Columns first: dx may overwrite dy.
    ctx.team().ParallelFor(columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(LayerNormBackwardWeight(dy.data<T>(), x.data<T>(), mean.data<float>(),
                                             rstd.data<float>(), rows, columns, begin, end,
                                             dweight.data<float>(), dbias.data<float>()));
    });
    ctx.team().ParallelFor(rows, RowGrain(columns), [&](int64_t begin, int64_t end) {
      const int64_t at = begin * columns;
      STRAKE_CPU_RUN(LayerNormBackwardInput(
          dy.data<T>() + at, x.data<T>() + at, weight.data<T>(), mean.data<float>() + begin,
          rstd.data<float>() + begin, end - begin, columns, accumulate_dx, dx.data<T>() + at));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("layer_norm", x.dtype(), [&]<typename Scalar>() {
    // Columns first: dx may overwrite dy.
    ctx.team().ParallelFor(columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      reference::LayerNormBackwardWeight(dy.data<Scalar>(), x.data<Scalar>(), mean.data<Scalar>(),
                                         rstd.data<Scalar>(), rows, columns, begin, end,
                                         dweight.data<Scalar>(), dbias.data<Scalar>());
    });
    ctx.team().ParallelFor(rows, RowGrain(columns), [&](int64_t begin, int64_t end) {
      const int64_t at = begin * columns;
      reference::LayerNormBackwardInput(dy.data<Scalar>() + at, x.data<Scalar>() + at,
                                        weight.data<Scalar>(), mean.data<Scalar>() + begin,
                                        rstd.data<Scalar>() + begin, end - begin, columns,
                                        accumulate_dx, dx.data<Scalar>() + at);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
