#include "core/ops/activation/activation.h"

#include "core/ops/activation/activation_cpu.h"
#include "core/ops/activation/activation_cuda.h"
#include "core/ops/activation/activation_reference.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "glog/logging.h"

namespace strake {

const char* ActivationName(ActivationKind kind) {
  constexpr const char* kNames[] = {"gelu", "gelu_erf", "silu", "relu"};
  return kNames[static_cast<int>(kind)];
}

absl::Status ActivationForward(const Context& ctx, ActivationKind kind, const Tensor& x, Tensor y) {
  const char* const name = ActivationName(kind);
  CHECK(y.shape() == x.shape() && y.dtype() == x.dtype())
      << "[" << name << "] x " << x.ToString() << ", y " << y.ToString();
  const bool on_cuda = OnCuda(name, ctx, x, y);
  const OpScope op(ctx, name, [&](OpCall& call) { call.In("x", x).Out("y", y); });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return DispatchCuda(name, x.dtype(), [&]<typename T>() {
      return cuda::ActivationForward<T>(
          ctx.cuda_stream(),
          {.kind = kind, .x = x.data<T>(), .size = x.num_elements(), .y = y.data<T>()});
    });
  }
  const bool done = RunCpuKernels(name, ctx, x.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(x.num_elements(), RowGrain(1), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(
          ActivationForward(kind, x.data<T>() + begin, end - begin, y.data<T>() + begin));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference(name, x.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(x.num_elements(), RowGrain(1), [&](int64_t begin, int64_t end) {
      reference::ActivationForward(kind, x.data<Scalar>() + begin, end - begin,
                                   y.data<Scalar>() + begin);
    });
  });
  return absl::OkStatus();
}

absl::Status ActivationBackward(const Context& ctx, ActivationKind kind, const Tensor& dy,
                                const Tensor& x, Tensor dx) {
  const char* const name = ActivationName(kind);
  CHECK(dy.shape() == x.shape() && dx.shape() == x.shape() && dy.dtype() == x.dtype() &&
        dx.dtype() == x.dtype())
      << "[" << name << "] dy " << dy.ToString() << ", x " << x.ToString() << ", dx "
      << dx.ToString();
  const bool on_cuda = OnCuda(name, ctx, dy, x, dx);
  const OpScope op(ctx, name, [&](OpCall& call) { call.In("dy", dy).In("x", x).Out("dx", dx); });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return DispatchCuda(name, x.dtype(), [&]<typename T>() {
      return cuda::ActivationBackward<T>(ctx.cuda_stream(), {.kind = kind,
                                                             .dy = dy.data<T>(),
                                                             .x = x.data<T>(),
                                                             .size = x.num_elements(),
                                                             .dx = dx.data<T>()});
    });
  }
  const bool done = RunCpuKernels(name, ctx, x.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(x.num_elements(), RowGrain(1), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(ActivationBackward(kind, dy.data<T>() + begin, x.data<T>() + begin,
                                        end - begin, dx.data<T>() + begin));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference(name, x.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(x.num_elements(), RowGrain(1), [&](int64_t begin, int64_t end) {
      reference::ActivationBackward(kind, dy.data<Scalar>() + begin, x.data<Scalar>() + begin,
                                    end - begin, dx.data<Scalar>() + begin);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
