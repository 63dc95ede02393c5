#include "core/ops/scale/scale.h"

#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/scale/scale_cpu.h"
#include "core/ops/scale/scale_cuda.h"
#include "core/ops/scale/scale_reference.h"
#include "glog/logging.h"

namespace strake {

absl::Status Scale(const Context& ctx, double factor, const Tensor& x, Tensor y) {
  CHECK(y.shape() == x.shape() && y.dtype() == x.dtype())
      << "[scale] factor " << factor << ", x " << x.ToString() << ", y " << y.ToString();
  const bool on_cuda = OnCuda("scale", ctx, x, y);
  const OpScope op(ctx, "scale",
                   [&](OpCall& call) { call.In("x", x).Out("y", y).Set("factor", factor); });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return DispatchCuda("scale", x.dtype(), [&]<typename T>() {
      return cuda::Scale<T>(ctx.cuda_stream(), {.factor = static_cast<float>(factor),
                                                .x = x.data<T>(),
                                                .size = x.num_elements(),
                                                .y = y.data<T>()});
    });
  }
  const bool done = RunCpuKernels("scale", ctx, x.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(x.num_elements(), RowGrain(1), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(
          Scale(static_cast<float>(factor), x.data<T>() + begin, end - begin, y.data<T>() + begin));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("scale", x.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(x.num_elements(), RowGrain(1), [&](int64_t begin, int64_t end) {
      reference::Scale(factor, x.data<Scalar>() + begin, end - begin, y.data<Scalar>() + begin);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
