#include "core/ops/bias_add/bias_add.h"

#include "core/ops/bias_add/bias_add_cpu.h"
#include "core/ops/bias_add/bias_add_cuda.h"
#include "core/ops/bias_add/bias_add_reference.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "glog/logging.h"

namespace strake {
namespace {

absl::Status BackwardOnCuda(const Context& ctx, const Tensor& dy, const Tensor& dbias,
                            const Tensor& workspace) {
  return DispatchCuda("bias_add", dy.dtype(), [&]<typename T>() {
    return cuda::BiasAddBackward<T>(ctx.cuda_stream(), {.dy = dy.data<T>(),
                                                        .rows = dy.dim(0),
                                                        .columns = dy.dim(1),
                                                        .dbias = dbias.data<float>(),
                                                        .workspace = workspace.data<float>()});
  });
}

}  // namespace

absl::Status BiasAddForward(const Context& ctx, const Tensor& x, const Tensor& bias, Tensor y) {
  CHECK(x.rank() == 2 && y.shape() == x.shape() && bias.shape() == Shape{x.dim(1)} &&
        bias.dtype() == x.dtype() && y.dtype() == x.dtype())
      << "[bias_add] x " << x.ToString() << ", bias " << bias.ToString() << ", y " << y.ToString();
  const bool on_cuda = OnCuda("bias_add", ctx, x, bias, y);
  const OpScope op(ctx, "bias_add",
                   [&](OpCall& call) { call.In("x", x).In("bias", bias).Out("y", y); });
  if (ctx.dry_run()) return absl::OkStatus();
  const int64_t columns = x.dim(1);
  if (on_cuda) {
    return DispatchCuda("bias_add", x.dtype(), [&]<typename T>() {
      return cuda::BiasAddForward<T>(ctx.cuda_stream(), {.x = x.data<T>(),
                                                         .bias = bias.data<T>(),
                                                         .rows = x.dim(0),
                                                         .columns = columns,
                                                         .y = y.data<T>()});
    });
  }
  const bool done = RunCpuKernels("bias_add", ctx, x.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(x.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      const int64_t at = begin * columns;
      STRAKE_CPU_RUN(
          BiasAddForward(x.data<T>() + at, bias.data<T>(), end - begin, columns, y.data<T>() + at));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("bias_add", x.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(x.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      const int64_t at = begin * columns;
      reference::BiasAddForward(x.data<Scalar>() + at, bias.data<Scalar>(), end - begin, columns,
                                y.data<Scalar>() + at);
    });
  });
  return absl::OkStatus();
}

absl::Status BiasAddBackward(const Context& ctx, const Tensor& dy, Tensor dbias) {
  CHECK(dy.rank() == 2 && dbias.shape() == Shape{dy.dim(1)} &&
        dbias.dtype() == AccumulationDType(dy.dtype()))
      << "[bias_add] dy " << dy.ToString() << ", dbias " << dbias.ToString();
  const bool on_cuda = OnCuda("bias_add", ctx, dy, dbias);
  const int64_t rows = dy.dim(0), columns = dy.dim(1);
  const ActivationScope scope(ctx.arena());
  Tensor workspace;
  if (on_cuda) {
    workspace =
        ctx.arena().Allocate(DType::kF32, {cuda::BiasAddBackwardWorkspaceSize(rows, columns)});
  }
  const OpScope op(ctx, "bias_add", [&](OpCall& call) { call.In("dy", dy).InOut("dbias", dbias); });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) return BackwardOnCuda(ctx, dy, dbias, workspace);
  const bool done = RunCpuKernels("bias_add", ctx, dy.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(BiasAddBackward(dy.data<T>(), rows, columns, begin, end, dbias.data<float>()));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("bias_add", dy.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      reference::BiasAddBackward(dy.data<Scalar>(), rows, columns, begin, end,
                                 dbias.data<Scalar>());
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
