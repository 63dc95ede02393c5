#include "core/nn/linear.h"

#include <utility>

#include "core/base/status_macros.h"
#include "core/ops/activation/activation.h"
#include "core/ops/matmul/matmul.h"
#include "glog/logging.h"

namespace strake {

Linear::Linear(Parameter* weight, const Parameter* bias, bool transposed, WeightOwnership ownership)
    : weight_(weight), bias_(bias), transposed_(transposed), ownership_(ownership) {
  CHECK(weight->shape.size() == 2 && (bias == nullptr || bias->shape == Shape{out_features()}))
      << "[linear] weight " << ShapeString(weight->shape) << ", bias "
      << (bias == nullptr ? "none" : ShapeString(bias->shape));
  weight->grad_is_overwritten = true;
}

void Linear::set_adapter(LowRankAdapter adapter) {
  CHECK(!transposed_ && adapter.in_features() == in_features() &&
        adapter.out_features() == out_features())
      << "[linear] weight " << ShapeString(weight_->shape) << (transposed_ ? " transposed" : "")
      << ", adapter of " << adapter.in_features() << " to " << adapter.out_features();
  adapter_.emplace(std::move(adapter));
}

int64_t Linear::in_features() const { return weight_->shape[transposed_ ? 1 : 0]; }
int64_t Linear::out_features() const { return weight_->shape[transposed_ ? 0 : 1]; }

absl::StatusOr<Tensor> Linear::Forward(const Context& ctx, const Tensor& x, LinearSaved* saved,
                                       Tensor* gelu_input, Tensor y) const {
  CHECK(x.rank() == 2 && x.dim(1) == in_features())
      << "[linear] x " << x.ToString() << ", weight " << weight_->value.ToString()
      << (transposed_ ? " transposed" : "");
  const LayerScope layer(ctx, layer_);
  const Shape shape = {x.dim(0), out_features()};
  MatmulOptions options = {.transpose_b = transposed_};
  ctx.WillRead(*weight_);
  if (bias_ != nullptr) {
    ctx.WillRead(*bias_);
    options.bias = bias_->value;
  }
  if (gelu_input != nullptr) {
    if (!gelu_input->defined()) *gelu_input = ctx.arena().Allocate(x.dtype(), shape);
    if (!adapter_.has_value()) options.gelu_input = *gelu_input;
  }
  if (!y.defined()) y = ctx.arena().Allocate(x.dtype(), shape);
  const bool gelu_follows = adapter_.has_value() && gelu_input != nullptr;
  const Tensor u = gelu_follows ? *gelu_input : y;
  STRAKE_RETURN_IF_ERROR(Matmul(ctx, x, weight_->value, options, u));
  if (adapter_.has_value()) STRAKE_RETURN_IF_ERROR(adapter_->Forward(ctx, x, u));
  if (gelu_follows) {
    STRAKE_RETURN_IF_ERROR(ActivationForward(ctx, ActivationKind::kGeluTanh, u, y));
  }
  if (saved != nullptr) saved->x = x;
  return y;
}

Pending<Tensor> Linear::BackwardInput(const Context& ctx, const Tensor& dy, LinearSaved* saved,
                                      const Tensor& gelu_input, const Context* kept,
                                      Tensor dx) const {
  const LayerScope layer(ctx, layer_);
  if (!dx.defined()) dx = ctx.arena().Allocate(dy.dtype(), saved->x.shape());
  MatmulOptions options = {.transpose_b = !transposed_};
  if (!adapter_.has_value()) options.gelu_grad_input = gelu_input;
  STRAKE_RETURN_IF_ERROR(Matmul(ctx, dy, weight_->value, options, dx));
  if (!adapter_.has_value()) return dx;
  STRAKE_RETURN_IF_ERROR(adapter_->BackwardInput(ctx, dy, dx, &saved->adapter, kept));
  if (gelu_input.defined()) {
    STRAKE_RETURN_IF_ERROR(ActivationBackward(ctx, ActivationKind::kGeluTanh, dx, gelu_input, dx));
  }
  return dx;
}

absl::Status Linear::BackwardWeight(const Context& ctx, const Tensor& dy,
                                    const LinearSaved& saved) const {
  const LayerScope layer(ctx, layer_);
  if (adapter_.has_value()) {
    STRAKE_RETURN_IF_ERROR(adapter_->BackwardWeight(ctx, dy, saved.x, saved.adapter));
  }
  if (weight_->frozen) return absl::OkStatus();
  const Tensor& left = transposed_ ? dy : saved.x;
  const Tensor& right = transposed_ ? saved.x : dy;
  const bool accumulate = !std::exchange(weight_->grad_is_cleared, false);
  MatmulOptions options = {.transpose_a = true, .accumulate = accumulate};
  if (bias_ != nullptr) (transposed_ ? options.a_sums : options.b_sums) = bias_->grad;
  STRAKE_RETURN_IF_ERROR(Matmul(ctx, left, right, options, weight_->grad));
  // The bias first, because gradients are announced in the reverse of the arena's order.
  if (bias_ != nullptr) ctx.GradReady(*bias_);
  if (ownership_ == WeightOwnership::kOwned) ctx.GradReady(*weight_);
  return absl::OkStatus();
}

}  // namespace strake
