#include "core/ops/gated_activation/gated_activation.h"

#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/gated_activation/gated_activation_cpu.h"
#include "core/ops/gated_activation/gated_activation_cuda.h"
#include "core/ops/gated_activation/gated_activation_reference.h"
#include "glog/logging.h"

namespace strake {
namespace {

// `y` is the output or its gradient, `dgate_up` the gradient or, in the forward pass, the input.
void CheckShapes(const char* name, const Tensor& y, const Tensor& gate_up, const Tensor& dgate_up) {
  CHECK(gate_up.rank() == 2 && y.rank() == 2 && y.dim(0) == gate_up.dim(0) &&
        2 * y.dim(1) == gate_up.dim(1) && dgate_up.shape() == gate_up.shape() &&
        y.dtype() == gate_up.dtype() && dgate_up.dtype() == gate_up.dtype())
      << "[" << name << "] gate_up " << gate_up.ToString() << ", y or gradient " << y.ToString()
      << ", dgate_up " << dgate_up.ToString();
}

}  // namespace

const char* GatedActivationName(ActivationKind kind) {
  constexpr const char* kNames[] = {"geglu", "geglu_erf", "swiglu", "reglu"};
  return kNames[static_cast<int>(kind)];
}

absl::Status GatedActivationForward(const Context& ctx, ActivationKind kind, const Tensor& gate_up,
                                    Tensor y) {
  const char* const name = GatedActivationName(kind);
  CheckShapes(name, y, gate_up, gate_up);
  const bool on_cuda = OnCuda(name, ctx, gate_up, y);
  const OpScope op(ctx, name, [&](OpCall& call) { call.In("gate_up", gate_up).Out("y", y); });
  if (ctx.dry_run()) return absl::OkStatus();
  const int64_t columns = y.dim(1);
  if (on_cuda) {
    return DispatchCuda(name, y.dtype(), [&]<typename T>() {
      return cuda::GatedActivationForward<T>(ctx.cuda_stream(), {.kind = kind,
                                                                 .gate_up = gate_up.data<T>(),
                                                                 .rows = y.dim(0),
                                                                 .columns = columns,
                                                                 .y = y.data<T>()});
    });
  }
  const bool done = RunCpuKernels(name, ctx, y.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(y.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(GatedActivationForward(kind, gate_up.data<T>() + begin * 2 * columns,
                                            end - begin, columns, y.data<T>() + begin * columns));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference(name, y.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(y.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      reference::GatedActivationForward(kind, gate_up.data<Scalar>() + begin * 2 * columns,
                                        end - begin, columns, y.data<Scalar>() + begin * columns);
    });
  });
  return absl::OkStatus();
}

absl::Status GatedActivationBackward(const Context& ctx, ActivationKind kind, const Tensor& dy,
                                     const Tensor& gate_up, Tensor dgate_up) {
  const char* const name = GatedActivationName(kind);
  CheckShapes(name, dy, gate_up, dgate_up);
  const bool on_cuda = OnCuda(name, ctx, dy, gate_up, dgate_up);
  const OpScope op(ctx, name, [&](OpCall& call) {
    call.In("dy", dy).In("gate_up", gate_up).Out("dgate_up", dgate_up);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  const int64_t columns = dy.dim(1);
  if (on_cuda) {
    return DispatchCuda(name, dy.dtype(), [&]<typename T>() {
      return cuda::GatedActivationBackward<T>(ctx.cuda_stream(), {.kind = kind,
                                                                  .dy = dy.data<T>(),
                                                                  .gate_up = gate_up.data<T>(),
                                                                  .rows = dy.dim(0),
                                                                  .columns = columns,
                                                                  .dgate_up = dgate_up.data<T>()});
    });
  }
  const bool done = RunCpuKernels(name, ctx, dy.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(dy.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      const int64_t at = begin * 2 * columns;
      STRAKE_CPU_RUN(GatedActivationBackward(kind, dy.data<T>() + begin * columns,
                                             gate_up.data<T>() + at, end - begin, columns,
                                             dgate_up.data<T>() + at));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference(name, dy.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(dy.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      const int64_t at = begin * 2 * columns;
      reference::GatedActivationBackward(kind, dy.data<Scalar>() + begin * columns,
                                         gate_up.data<Scalar>() + at, end - begin, columns,
                                         dgate_up.data<Scalar>() + at);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
