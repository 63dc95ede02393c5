#include "core/ops/layer_norm.h"

#include "core/ops/dispatch.h"
#include "core/ops/reference/layer_norm.h"
#include "glog/logging.h"

namespace strake {
namespace {

// `weight` and `bias` are the parameters or their gradients, `y` the output or a gradient.
void CheckShapes(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& y,
                 const Tensor& mean, const Tensor& rstd) {
  CheckOnCpu("layer_norm", x);
  CHECK(x.rank() == 2 && y.shape() == x.shape() && weight.shape() == Shape{x.dim(1)} &&
        bias.shape() == weight.shape() && mean.shape() == Shape{x.dim(0)} &&
        rstd.shape() == mean.shape() && weight.dtype() == x.dtype() && bias.dtype() == x.dtype() &&
        y.dtype() == x.dtype() && mean.dtype() == x.dtype() && rstd.dtype() == x.dtype())
      << "[layer_norm] x " << x.ToString() << ", y or gradient " << y.ToString() << ", weight "
      << weight.ToString() << ", bias " << bias.ToString() << ", mean " << mean.ToString()
      << ", rstd " << rstd.ToString();
}

}  // namespace

absl::Status LayerNormForward(const Context& ctx, const Tensor& x, const Tensor& weight,
                              const Tensor& bias, double eps, Tensor y, Tensor mean, Tensor rstd) {
  CheckShapes(x, weight, bias, y, mean, rstd);
  if (ctx.dry_run()) return absl::OkStatus();
  const OpTimer timer(ctx.profile(), "layer_norm", ctx.pass());
  const int64_t columns = x.dim(1);
  DispatchReference("layer_norm", x.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(x.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      const int64_t at = begin * columns;
      reference::LayerNormForward(x.data<Scalar>() + at, weight.data<Scalar>(), bias.data<Scalar>(),
                                  end - begin, columns, eps, y.data<Scalar>() + at,
                                  mean.data<Scalar>() + begin, rstd.data<Scalar>() + begin);
    });
  });
  return absl::OkStatus();
}

absl::Status LayerNormBackward(const Context& ctx, const Tensor& dy, const Tensor& x,
                               const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                               bool accumulate_dx, Tensor dx, Tensor dweight, Tensor dbias) {
  CheckShapes(x, weight, dbias, dy, mean, rstd);
  CheckShapes(x, dweight, dbias, dx, mean, rstd);
  if (ctx.dry_run()) return absl::OkStatus();
  const OpTimer timer(ctx.profile(), "layer_norm", ctx.pass());
  const int64_t rows = x.dim(0), columns = x.dim(1);
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
