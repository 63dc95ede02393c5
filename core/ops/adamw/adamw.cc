#include "core/ops/adamw/adamw.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/ops/adamw/adamw_cuda.h"
#include "core/ops/adamw/adamw_reference.h"
#include "core/ops/adamw/adamw_step.h"
#include "core/ops/cpu/convert_cpu.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "glog/logging.h"

namespace strake {
namespace {

static_assert(sizeof(AdamWScalars<float>) == kNumAdamWScalars * sizeof(float));

bool IsWeightDType(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF64; }

void CheckArguments(const Tensor& scalars, const Tensor& clip, const Tensor& grad,
                    const Tensor& weight, const Tensor& exp_avg, const Tensor& exp_avg_sq,
                    const Tensor& rounded) {
  bool match = IsWeightDType(weight.dtype());
  for (const Tensor* x : {&grad, &exp_avg, &exp_avg_sq}) {
    match = match && x->shape() == weight.shape() && x->dtype() == weight.dtype();
  }
  CHECK(match) << "[adamw] grad " << grad.ToString() << ", weight " << weight.ToString()
               << ", exp_avg " << exp_avg.ToString() << ", exp_avg_sq " << exp_avg_sq.ToString();
  CHECK(scalars.shape() == Shape{kNumAdamWScalars} && scalars.dtype() == weight.dtype() &&
        (!clip.defined() || (clip.shape() == Shape{2} && clip.dtype() == DType::kF64)))
      << "[adamw] scalars " << scalars.ToString() << ", clip " << clip.ToString() << ", weight "
      << weight.ToString();
  CHECK(!rounded.defined() || (rounded.shape() == weight.shape() &&
                               rounded.dtype() == DType::kBf16 && weight.dtype() == DType::kF32))
      << "[adamw] rounded " << rounded.ToString() << ", weight " << weight.ToString();
}

// Returns false for NaN, because a NaN compares false.
bool Updates(const double* clip) { return clip[0] < INFINITY && clip[1] > 0 && clip[1] < INFINITY; }

template <typename Scalar>
void Update(const Context& ctx, AdamWScalars<Scalar> scalars, Scalar grad_scale,
            const AdamWOperands& o) {
  // Rounds the weights of a block to bf16 while they are in cache.
  constexpr int64_t kBlockElements = 4096;
  ctx.team().ParallelFor(o.weight.num_elements(), kBlockElements, [&](int64_t begin, int64_t end) {
    for (; begin < end; begin += kBlockElements) {
      const int64_t size = std::min(kBlockElements, end - begin);
      reference::AdamWUpdate(scalars, grad_scale, o.grad.data<Scalar>() + begin, size,
                             o.weight.data<Scalar>() + begin, o.exp_avg.data<Scalar>() + begin,
                             o.exp_avg_sq.data<Scalar>() + begin);
      if (o.rounded.defined()) {
        STRAKE_CPU_RUN(
            Convert(o.weight.data<float>() + begin, size, o.rounded.data<Bf16>() + begin));
      }
    }
  });
}

absl::Status UpdateOnCuda(const Context& ctx, const AdamWOperands& o, bool weight_decay) {
  return cuda::AdamWUpdate(
      ctx.cuda_stream(),
      {.scalars = reinterpret_cast<const AdamWScalars<float>*>(o.scalars.data<float>()),
       .weight_decay = weight_decay,
       .clip = o.clip.defined() ? o.clip.data<double>() : nullptr,
       .grad = o.grad.data<float>(),
       .size = o.grad.num_elements(),
       .weight = o.weight.data<float>(),
       .exp_avg = o.exp_avg.data<float>(),
       .exp_avg_sq = o.exp_avg_sq.data<float>(),
       .rounded = o.rounded.defined() ? o.rounded.data<Bf16>() : nullptr});
}

template <typename Body>
void DispatchWeights(DType dtype, Body&& body) {
  if (dtype == DType::kF32) return body.template operator()<float>();
  return body.template operator()<double>();
}

}  // namespace

void SetAdamWScalars(const AdamWStep& step, Tensor scalars) {
  CHECK(scalars.shape() == Shape{kNumAdamWScalars} && IsWeightDType(scalars.dtype()) &&
        scalars.device() == Device::kCpu)
      << "[adamw] scalars " << scalars.ToString();
  CHECK_GE(step.step, 1) << "[adamw] steps count from 1";
  DispatchWeights(scalars.dtype(), [&]<typename Scalar>() {
    const AdamWScalars<Scalar> values = reference::AdamWScalarsOf<Scalar>(step);
    std::memcpy(scalars.data<Scalar>(), &values, sizeof(values));
  });
}

absl::Status AdamWUpdate(const Context& ctx, const AdamWOperands& o, bool weight_decay) {
  CheckArguments(o.scalars, o.clip, o.grad, o.weight, o.exp_avg, o.exp_avg_sq, o.rounded);
  const bool on_cuda =
      OnCuda("adamw", ctx, o.scalars, o.clip, o.grad, o.weight, o.exp_avg, o.exp_avg_sq, o.rounded);
  const OpScope op(ctx, "adamw", [&](OpCall& call) {
    call.In("scalars", o.scalars, 0)
        .In("clip", o.clip, 0)
        .In("grad", o.grad)
        .InOut("weight", o.weight)
        .InOut("exp_avg", o.exp_avg)
        .InOut("exp_avg_sq", o.exp_avg_sq)
        .Out("rounded", o.rounded)
        .Set("weight_decay", weight_decay);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) return UpdateOnCuda(ctx, o, weight_decay);
  if (o.clip.defined() && !Updates(o.clip.data<double>())) return absl::OkStatus();
  DispatchWeights(o.weight.dtype(), [&]<typename Scalar>() {
    AdamWScalars<Scalar> values;
    std::memcpy(&values, o.scalars.data<Scalar>(), sizeof(values));
    if (!weight_decay) values.decay = 1;
    const Scalar grad_scale = o.clip.defined() ? static_cast<Scalar>(o.clip.data<double>()[1]) : 1;
    Update(ctx, values, grad_scale, o);
  });
  return absl::OkStatus();
}

}  // namespace strake
