#include "core/ops/adamw.h"

#include "core/ops/dispatch.h"
#include "core/ops/reference/adamw.h"
#include "glog/logging.h"

namespace strake {
namespace {

void CheckArguments(const AdamWStep& step, const Tensor& grad, const Tensor& weight,
                    const Tensor& exp_avg, const Tensor& exp_avg_sq) {
  CheckOnCpu("adamw", weight);
  bool match = weight.dtype() == DType::kF32 || weight.dtype() == DType::kF64;
  for (const Tensor* x : {&grad, &exp_avg, &exp_avg_sq}) {
    match = match && x->shape() == weight.shape() && x->dtype() == weight.dtype();
  }
  CHECK(match) << "[adamw] grad " << grad.ToString() << ", weight " << weight.ToString()
               << ", exp_avg " << exp_avg.ToString() << ", exp_avg_sq " << exp_avg_sq.ToString();
  CHECK_GE(step.step, 1) << "[adamw] steps count from 1";
}

template <typename Scalar>
void Update(const Context& ctx, const AdamWStep& step, const Tensor& grad, const Tensor& weight,
            const Tensor& exp_avg, const Tensor& exp_avg_sq) {
  const reference::AdamWScalars<Scalar> scalars(step);
  ctx.team().ParallelFor(weight.num_elements(), RowGrain(1), [&](int64_t begin, int64_t end) {
    reference::AdamWUpdate(scalars, grad.data<Scalar>() + begin, end - begin,
                           weight.data<Scalar>() + begin, exp_avg.data<Scalar>() + begin,
                           exp_avg_sq.data<Scalar>() + begin);
  });
}

}  // namespace

absl::Status AdamWUpdate(const Context& ctx, const AdamWStep& step, const Tensor& grad,
                         Tensor weight, Tensor exp_avg, Tensor exp_avg_sq) {
  CheckArguments(step, grad, weight, exp_avg, exp_avg_sq);
  if (ctx.dry_run()) return absl::OkStatus();
  const OpTimer timer(ctx.profile(), "adamw", ctx.pass());
  if (weight.dtype() == DType::kF32) {
    Update<float>(ctx, step, grad, weight, exp_avg, exp_avg_sq);
  } else {
    Update<double>(ctx, step, grad, weight, exp_avg, exp_avg_sq);
  }
  return absl::OkStatus();
}

}  // namespace strake
