#include "core/ops/softcap/softcap.h"

#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/softcap/softcap_cpu.h"
#include "core/ops/softcap/softcap_cuda.h"
#include "core/ops/softcap/softcap_reference.h"
#include "glog/logging.h"

namespace strake {

absl::Status Softcap(const Context& ctx, double cap, const Tensor& x, Tensor y) {
  CHECK(cap > 0 && y.shape() == x.shape() && y.dtype() == x.dtype())
      << "[softcap] cap " << cap << ", x " << x.ToString() << ", y " << y.ToString();
  const bool on_cuda = OnCuda("softcap", ctx, x, y);
  const OpScope op(ctx, "softcap",
                   [&](OpCall& call) { call.In("x", x).Out("y", y).Set("cap", cap); });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return DispatchCuda("softcap", x.dtype(), [&]<typename T>() {
      return cuda::Softcap<T>(ctx.cuda_stream(), {.cap = static_cast<float>(cap),
                                                  .x = x.data<T>(),
                                                  .size = x.num_elements(),
                                                  .y = y.data<T>()});
    });
  }
  const bool done = RunCpuKernels("softcap", ctx, x.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(x.num_elements(), RowGrain(1), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(
          Softcap(static_cast<float>(cap), x.data<T>() + begin, end - begin, y.data<T>() + begin));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("softcap", x.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(x.num_elements(), RowGrain(1), [&](int64_t begin, int64_t end) {
      reference::Softcap(cap, x.data<Scalar>() + begin, end - begin, y.data<Scalar>() + begin);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
