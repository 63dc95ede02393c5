#include "core/ops/bias_add.h"

#include "core/ops/dispatch.h"
#include "core/ops/reference/bias_add.h"
#include "glog/logging.h"

namespace strake {
namespace {

void CheckShapes(const Tensor& x, const Tensor& bias, const Tensor& y) {
  CheckOnCpu("bias_add", x);
  CHECK(x.rank() == 2 && y.shape() == x.shape() && bias.shape() == Shape{x.dim(1)} &&
        bias.dtype() == x.dtype() && y.dtype() == x.dtype())
      << "[bias_add] x or gradient " << x.ToString() << ", bias " << bias.ToString() << ", y "
      << y.ToString();
}

}  // namespace

absl::Status BiasAddForward(const Context& ctx, const Tensor& x, const Tensor& bias, Tensor y) {
  CheckShapes(x, bias, y);
  if (ctx.dry_run()) return absl::OkStatus();
  const OpTimer timer(ctx.profile(), "bias_add", ctx.pass());
  const int64_t columns = x.dim(1);
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
  CheckShapes(dy, dbias, dy);
  if (ctx.dry_run()) return absl::OkStatus();
  const OpTimer timer(ctx.profile(), "bias_add", ctx.pass());
  const int64_t rows = dy.dim(0), columns = dy.dim(1);
  DispatchReference("bias_add", dy.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      reference::BiasAddBackward(dy.data<Scalar>(), rows, columns, begin, end,
                                 dbias.data<Scalar>());
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
