#include "core/ops/swiglu/swiglu.h"

#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/swiglu/swiglu_cpu.h"
#include "core/ops/swiglu/swiglu_cuda.h"
#include "core/ops/swiglu/swiglu_reference.h"
#include "glog/logging.h"

namespace strake {
namespace {

// `y` is the output or its gradient, `dgate_up` the gradient or, in the forward pass, the input.
void CheckShapes(const Tensor& y, const Tensor& gate_up, const Tensor& dgate_up) {
  CHECK(gate_up.rank() == 2 && y.rank() == 2 && y.dim(0) == gate_up.dim(0) &&
        2 * y.dim(1) == gate_up.dim(1) && dgate_up.shape() == gate_up.shape() &&
        y.dtype() == gate_up.dtype() && dgate_up.dtype() == gate_up.dtype())
      << "[swiglu] gate_up " << gate_up.ToString() << ", y or gradient " << y.ToString()
      << ", dgate_up " << dgate_up.ToString();
}

}  // namespace

absl::Status SwigluForward(const Context& ctx, const Tensor& gate_up, Tensor y) {
  CheckShapes(y, gate_up, gate_up);
  const bool on_cuda = OnCuda("swiglu", ctx, gate_up, y);
  const OpScope op(ctx, "swiglu", [&](OpCall& call) { call.In("gate_up", gate_up).Out("y", y); });
  if (ctx.dry_run()) return absl::OkStatus();
  const int64_t columns = y.dim(1);
  if (on_cuda) {
    return DispatchCuda("swiglu", y.dtype(), [&]<typename T>() {
      return cuda::SwigluForward<T>(
          ctx.cuda_stream(),
          {.gate_up = gate_up.data<T>(), .rows = y.dim(0), .columns = columns, .y = y.data<T>()});
    });
  }
  const bool done = RunCpuKernels("swiglu", ctx, y.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(y.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(SwigluForward(gate_up.data<T>() + begin * 2 * columns, end - begin, columns,
                                   y.data<T>() + begin * columns));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("swiglu", y.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(y.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      reference::SwigluForward(gate_up.data<Scalar>() + begin * 2 * columns, end - begin, columns,
                               y.data<Scalar>() + begin * columns);
    });
  });
  return absl::OkStatus();
}

absl::Status SwigluBackward(const Context& ctx, const Tensor& dy, const Tensor& gate_up,
                            Tensor dgate_up) {
  CheckShapes(dy, gate_up, dgate_up);
  const bool on_cuda = OnCuda("swiglu", ctx, dy, gate_up, dgate_up);
  const OpScope op(ctx, "swiglu", [&](OpCall& call) {
    call.In("dy", dy).In("gate_up", gate_up).Out("dgate_up", dgate_up);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  const int64_t columns = dy.dim(1);
  if (on_cuda) {
    return DispatchCuda("swiglu", dy.dtype(), [&]<typename T>() {
      return cuda::SwigluBackward<T>(ctx.cuda_stream(), {.dy = dy.data<T>(),
                                                         .gate_up = gate_up.data<T>(),
                                                         .rows = dy.dim(0),
                                                         .columns = columns,
                                                         .dgate_up = dgate_up.data<T>()});
    });
  }
  const bool done = RunCpuKernels("swiglu", ctx, dy.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(dy.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      const int64_t at = begin * 2 * columns;
      STRAKE_CPU_RUN(SwigluBackward(dy.data<T>() + begin * columns, gate_up.data<T>() + at,
                                    end - begin, columns, dgate_up.data<T>() + at));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("swiglu", dy.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(dy.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      const int64_t at = begin * 2 * columns;
      reference::SwigluBackward(dy.data<Scalar>() + begin * columns, gate_up.data<Scalar>() + at,
                                end - begin, columns, dgate_up.data<Scalar>() + at);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
