#include "core/ops/gelu/gelu.h"

#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/gelu/gelu_cpu.h"
#include "core/ops/gelu/gelu_cuda.h"
#include "core/ops/gelu/gelu_reference.h"
#include "glog/logging.h"

namespace strake {

absl::Status GeluForward(const Context& ctx, const Tensor& x, Tensor y) {
  CHECK(y.shape() == x.shape() && y.dtype() == x.dtype())
      << "[gelu] x " << x.ToString() << ", y " << y.ToString();
  const bool on_cuda = OnCuda("gelu", ctx, x, y);
  const OpScope op(ctx, "gelu", [&](OpCall& call) { call.In("x", x).Out("y", y); });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return DispatchCuda("gelu", x.dtype(), [&]<typename T>() {
      return cuda::GeluForward<T>(ctx.cuda_stream(),
                                  {.x = x.data<T>(), .size = x.num_elements(), .y = y.data<T>()});
    });
  }
  const bool done = RunCpuKernels("gelu", ctx, x.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(x.num_elements(), RowGrain(1), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(GeluForward(x.data<T>() + begin, end - begin, y.data<T>() + begin));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("gelu", x.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(x.num_elements(), RowGrain(1), [&](int64_t begin, int64_t end) {
      reference::GeluForward(x.data<Scalar>() + begin, end - begin, y.data<Scalar>() + begin);
    });
  });
  return absl::OkStatus();
}

absl::Status GeluBackward(const Context& ctx, const Tensor& dy, const Tensor& x, Tensor dx) {
  CHECK(dy.shape() == x.shape() && dx.shape() == x.shape() && dy.dtype() == x.dtype() &&
        dx.dtype() == x.dtype())
      << "[gelu] dy " << dy.ToString() << ", x " << x.ToString() << ", dx " << dx.ToString();
  const bool on_cuda = OnCuda("gelu", ctx, dy, x, dx);
  const OpScope op(ctx, "gelu", [&](OpCall& call) { call.In("dy", dy).In("x", x).Out("dx", dx); });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return DispatchCuda("gelu", x.dtype(), [&]<typename T>() {
      return cuda::GeluBackward<T>(
          ctx.cuda_stream(),
          {.dy = dy.data<T>(), .x = x.data<T>(), .size = x.num_elements(), .dx = dx.data<T>()});
    });
  }
  const bool done = RunCpuKernels("gelu", ctx, x.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(x.num_elements(), RowGrain(1), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(GeluBackward(dy.data<T>() + begin, x.data<T>() + begin, end - begin,
                                  dx.data<T>() + begin));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("gelu", x.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(x.num_elements(), RowGrain(1), [&](int64_t begin, int64_t end) {
      reference::GeluBackward(dy.data<Scalar>() + begin, x.data<Scalar>() + begin, end - begin,
                              dx.data<Scalar>() + begin);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
