// Norm on a GPU.
#include <cstdint>
#include <tuple>
#include <vector>

#include "core/base/status_macros.h"
#include "core/memory/parameter_arena.h"
#include "core/nn/norm.h"
#include "core/ops/copy/copy.h"
#include "core/testing/cuda_parity.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ExpectFollowsF64;
using testing::F32SumTolerance;
using testing::ParityOperand;
using testing::UnitRoundoff;

Parameter Trained(const Tensor& value, const Tensor& grad) {
  Parameter parameter;
  parameter.value = value;
  parameter.grad = grad;
  return parameter;
}

// A dtype, and whether it is a LayerNorm.
class NormCudaTest : public ::testing::TestWithParam<std::tuple<DType, bool>> {
 protected:
  static constexpr int64_t kRows = 5, kColumns = 64;

  DType dtype() const { return std::get<0>(GetParam()); }
  bool layer_norm() const { return std::get<1>(GetParam()); }

  ParityOperand in() const { return {{kRows, kColumns}, dtype()}; }
  ParityOperand row() const { return {{kColumns}, dtype()}; }
  ParityOperand out() const {
    return {{kRows, kColumns}, dtype(), F32SumTolerance(kColumns) + rounding()};
  }
  ParityOperand dweight() const {
    return {{kColumns}, DType::kF32, F32SumTolerance(kRows) + rounding()};
  }
  // An RMSNorm leaves it as it is.
  ParityOperand dbias() const {
    ParityOperand gradient = dweight();
    if (!layer_norm()) gradient.tolerance = 0;
    return gradient;
  }

  Norm MakeNorm(const Parameter& weight, const Parameter& bias) const {
    return Norm(&weight, layer_norm() ? &bias : nullptr, 1e-2, layer_norm() ? 0 : 1);
  }

 private:
  double rounding() const { return 3 * UnitRoundoff(dtype()); }
};

// The sum of x and the residual is rounded. The norm and its gradients inherit that rounding, for
// an element of it and for the statistics; then they are rounded themselves.
TEST_P(NormCudaTest, ForwardAndBackward) {
  const auto op = [&](const Context& ctx, const std::vector<Tensor>& t) -> absl::Status {
    const Parameter weight = Trained(t[0], t[1]), bias = Trained(t[2], t[3]);
    const Norm norm = MakeNorm(weight, bias);
    NormSaved saved;
    const ActivationScope scope(ctx.arena());
    STRAKE_ASSIGN_OR_RETURN(const Tensor y, norm.Forward(ctx, t[4], t[5], &saved));
    STRAKE_RETURN_IF_ERROR(Copy(ctx, y, t[6]));
    return norm.Backward(ctx, t[7], saved, /*accumulate_dx=*/false, t[8]);
  };
  ExpectFollowsF64({row(), dweight(), row(), dbias(), out(), in(), out(), in(), out()}, op);
}

// The passes apart: dx replaces nothing, and the weights' gradients come last.
TEST_P(NormCudaTest, BackwardInputAndBackwardWeight) {
  const auto op = [&](const Context& ctx, const std::vector<Tensor>& t) -> absl::Status {
    const Parameter weight = Trained(t[0], t[1]), bias = Trained(t[2], t[3]);
    const Norm norm = MakeNorm(weight, bias);
    NormSaved saved;
    const ActivationScope scope(ctx.arena());
    STRAKE_RETURN_IF_ERROR(norm.Forward(ctx, t[4], Tensor(), &saved).status());
    STRAKE_RETURN_IF_ERROR(norm.BackwardInput(ctx, t[5], /*accumulate_dx=*/true, t[6], &saved));
    return norm.BackwardWeight(ctx, saved);
  };
  ExpectFollowsF64({row(), dweight(), row(), dbias(), in(), in(), out()}, op);
}

TEST_P(NormCudaTest, BackwardOfFrozenParameters) {
  const auto op = [&](const Context& ctx, const std::vector<Tensor>& t) -> absl::Status {
    Parameter weight = Trained(t[0], Tensor()), bias = Trained(t[1], Tensor());
    weight.frozen = bias.frozen = true;
    const Norm norm = MakeNorm(weight, bias);
    NormSaved saved;
    const ActivationScope scope(ctx.arena());
    STRAKE_RETURN_IF_ERROR(norm.Forward(ctx, t[2], Tensor(), &saved).status());
    return norm.Backward(ctx, t[3], saved, /*accumulate_dx=*/false, t[4]);
  };
  ExpectFollowsF64({row(), row(), in(), in(), out()}, op);
}

INSTANTIATE_TEST_SUITE_P(Kinds, NormCudaTest,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBf16),
                                            ::testing::Bool()),
                         [](const auto& info) {
                           return std::string(DTypeName(std::get<0>(info.param))) +
                                  (std::get<1>(info.param) ? "LayerNorm" : "RmsNorm");
                         });

}  // namespace
}  // namespace strake
