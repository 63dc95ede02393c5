#include "core/ops/residual_add/residual_add.h"

#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/residual_add/residual_add_cpu.h"
#include "core/ops/residual_add/residual_add_cuda.h"
#include "core/ops/residual_add/residual_add_reference.h"
#include "glog/logging.h"

namespace strake {

absl::Status ResidualAddForward(const Context& ctx, const Tensor& x, const Tensor& residual,
                                Tensor y) {
  CHECK(residual.shape() == x.shape() && y.shape() == x.shape() && residual.dtype() == x.dtype() &&
        y.dtype() == x.dtype())
      << "[residual_add] x " << x.ToString() << ", residual " << residual.ToString() << ", y "
      << y.ToString();
  const bool on_cuda = OnCuda("residual_add", ctx, x, residual, y);
  const OpScope op(ctx, "residual_add",
                   [&](OpCall& call) { call.In("x", x).In("residual", residual).Out("y", y); });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return DispatchCuda("residual_add", x.dtype(), [&]<typename T>() {
      return cuda::ResidualAddForward<T>(ctx.cuda_stream(), {.x = x.data<T>(),
                                                             .residual = residual.data<T>(),
                                                             .size = x.num_elements(),
                                                             .y = y.data<T>()});
    });
  }
  const bool done = RunCpuKernels("residual_add", ctx, x.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(x.num_elements(), RowGrain(1), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(ResidualAddForward(x.data<T>() + begin, residual.data<T>() + begin,
                                        end - begin, y.data<T>() + begin));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("residual_add", x.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(x.num_elements(), RowGrain(1), [&](int64_t begin, int64_t end) {
      reference::ResidualAddForward(x.data<Scalar>() + begin, residual.data<Scalar>() + begin,
                                    end - begin, y.data<Scalar>() + begin);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
