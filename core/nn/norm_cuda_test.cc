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

// A dtype, and whether it is a LayerNorm.
class NormCudaTest : public ::testing::TestWithParam<std::tuple<DType, bool>> {};

// The sum of x and the residual is rounded. The norm and its gradients inherit that rounding, for
// an element of it and for the statistics; then they are rounded themselves.
TEST_P(NormCudaTest, ForwardAndBackward) {
  const DType dtype = std::get<0>(GetParam());
  const bool layer_norm = std::get<1>(GetParam());
  const int64_t n = 5, c = 64;
  const double rounding = 3 * UnitRoundoff(dtype);
  const ParityOperand in{{n, c}, dtype}, row{{c}, dtype};
  const ParityOperand out{{n, c}, dtype, F32SumTolerance(c) + rounding};
  const ParityOperand gradient{{c}, DType::kF32, F32SumTolerance(n) + rounding};
  const auto op = [&](const Context& ctx, const std::vector<Tensor>& t) -> absl::Status {
    Parameter weight, bias;
    weight.value = t[0];
    weight.grad = t[1];
    bias.value = t[2];
    bias.grad = t[3];
    const Norm norm(&weight, layer_norm ? &bias : nullptr, 1e-2, layer_norm ? 0 : 1);
    NormSaved saved;
    const ActivationScope scope(ctx.arena());
    STRAKE_ASSIGN_OR_RETURN(const Tensor y, norm.Forward(ctx, t[4], t[5], &saved));
    STRAKE_RETURN_IF_ERROR(Copy(ctx, y, t[6]));
    return norm.Backward(ctx, t[7], saved, /*accumulate_dx=*/false, t[8]);
  };
  ParityOperand dbias = gradient;
  if (!layer_norm) dbias.tolerance = 0;
  ExpectFollowsF64({row, gradient, row, dbias, out, in, out, in, out}, op);
}

// The passes apart: dx replaces nothing, and the weights' gradients come last.
TEST_P(NormCudaTest, BackwardInputAndBackwardWeight) {
  const DType dtype = std::get<0>(GetParam());
  const bool layer_norm = std::get<1>(GetParam());
  const int64_t n = 5, c = 64;
  const double rounding = 3 * UnitRoundoff(dtype);
  const ParityOperand in{{n, c}, dtype}, row{{c}, dtype};
  const ParityOperand out{{n, c}, dtype, F32SumTolerance(c) + rounding};
  const ParityOperand gradient{{c}, DType::kF32, F32SumTolerance(n) + rounding};
  ParityOperand dbias = gradient;
  if (!layer_norm) dbias.tolerance = 0;
  const auto op = [&](const Context& ctx, const std::vector<Tensor>& t) -> absl::Status {
    Parameter weight, bias;
    weight.value = t[0];
    weight.grad = t[1];
    bias.value = t[2];
    bias.grad = t[3];
    const Norm norm(&weight, layer_norm ? &bias : nullptr, 1e-2, layer_norm ? 0 : 1);
    NormSaved saved;
    const ActivationScope scope(ctx.arena());
    STRAKE_RETURN_IF_ERROR(norm.Forward(ctx, t[4], Tensor(), &saved).status());
    STRAKE_RETURN_IF_ERROR(norm.BackwardInput(ctx, t[5], /*accumulate_dx=*/true, t[6], &saved));
    return norm.BackwardWeight(ctx, saved);
  };
  ExpectFollowsF64({row, gradient, row, dbias, in, in, out}, op);
}

TEST_P(NormCudaTest, BackwardOfFrozenParameters) {
  const DType dtype = std::get<0>(GetParam());
  const bool layer_norm = std::get<1>(GetParam());
  const int64_t n = 5, c = 64;
  const ParityOperand in{{n, c}, dtype}, row{{c}, dtype};
  const ParityOperand out{{n, c}, dtype, F32SumTolerance(c) + 3 * UnitRoundoff(dtype)};
  const auto op = [&](const Context& ctx, const std::vector<Tensor>& t) -> absl::Status {
    Parameter weight, bias;
    weight.value = t[0];
    bias.value = t[1];
    weight.frozen = bias.frozen = true;
    const Norm norm(&weight, layer_norm ? &bias : nullptr, 1e-2, layer_norm ? 0 : 1);
    NormSaved saved;
    const ActivationScope scope(ctx.arena());
    STRAKE_RETURN_IF_ERROR(norm.Forward(ctx, t[2], Tensor(), &saved).status());
    return norm.Backward(ctx, t[3], saved, /*accumulate_dx=*/false, t[4]);
  };
  ExpectFollowsF64({row, row, in, in, out}, op);
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
