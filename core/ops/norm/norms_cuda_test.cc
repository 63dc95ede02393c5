// LayerNorm and RMSNorm on a GPU, through the ops that dispatch to it.
#include <cstdint>
#include <tuple>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/norm/layer_norm.h"
#include "core/ops/norm/rms_norm.h"
#include "core/testing/cuda_parity.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ExpectFollowsF64;
using testing::F32SumTolerance;
using testing::ParityOperand;
using testing::UnitRoundoff;
using Tensors = std::vector<Tensor>;

constexpr double kEps = 1e-2, kWeightOffset = 1;
constexpr std::pair<int64_t, int64_t> kSizes[] = {{5, 64}, {3, 7}, {0, 8}};  // rows, columns

class NormsCudaTest : public ::testing::TestWithParam<std::tuple<DType, bool>> {
 protected:
  DType dtype() const { return std::get<DType>(GetParam()); }
  bool layer_norm() const { return std::get<bool>(GetParam()); }

  // A result in `dtype` with `num_terms` terms.
  ParityOperand Result(const Shape& shape, int64_t num_terms, int num_roundings = 1) const {
    return {shape, dtype(), F32SumTolerance(num_terms) + num_roundings * UnitRoundoff(dtype())};
  }
  ParityOperand Sum(const Shape& shape, int64_t num_terms) const {
    return {shape, DType::kF32, F32SumTolerance(num_terms)};
  }

  absl::Status Forward(const Context& ctx, const LayerNormForwardOperands& o) const {
    if (layer_norm()) return LayerNormForward(ctx, o, kEps);
    return RmsNormForward(ctx, o.x, o.residual, o.weight, kEps, kWeightOffset, o.sum, o.y, o.rstd);
  }
};

TEST_P(NormsCudaTest, Forward) {
  for (const auto& [n, c] : kSizes) {
    SCOPED_TRACE(::testing::Message() << n << " x " << c);
    const ParityOperand matrix{{n, c}, dtype()}, row{{c}, dtype()};
    const ParityOperand statistic = Sum({n}, c);
    ExpectFollowsF64(
        {matrix, row, row, Result({n, c}, c), layer_norm() ? statistic : row, statistic},
        [&](const Context& ctx, const Tensors& t) {
          return Forward(
              ctx,
              {.x = t[0], .weight = t[1], .bias = t[2], .y = t[3], .mean = t[4], .rstd = t[5]});
        });
  }
}

// The norm is that of the sum in its dtype. It has the roundings of an element of the sum, of rstd
// for the roundings of all of them, and of y.
TEST_P(NormsCudaTest, ForwardWithResidual) {
  for (const auto& [n, c] : kSizes) {
    SCOPED_TRACE(::testing::Message() << n << " x " << c);
    const ParityOperand matrix{{n, c}, dtype()}, row{{c}, dtype()};
    const ParityOperand statistic = {{n}, DType::kF32, F32SumTolerance(c) + UnitRoundoff(dtype())};
    const ParityOperand y = Result({n, c}, c, 3), sum = Result({n, c}, 1);
    const ParityOperand mean = layer_norm() ? statistic : row;
    ExpectFollowsF64({matrix, matrix, row, row, sum, y, mean, statistic},
                     [&](const Context& ctx, const Tensors& t) {
                       return Forward(ctx, {.x = t[0],
                                            .residual = t[1],
                                            .weight = t[2],
                                            .bias = t[3],
                                            .sum = t[4],
                                            .y = t[5],
                                            .mean = t[6],
                                            .rstd = t[7]});
                     });
    ExpectFollowsF64({sum, matrix, row, row, y, mean, statistic},
                     [&](const Context& ctx, const Tensors& t) {
                       return Forward(ctx, {.x = t[0],
                                            .residual = t[1],
                                            .weight = t[2],
                                            .bias = t[3],
                                            .sum = t[0],
                                            .y = t[4],
                                            .mean = t[5],
                                            .rstd = t[6]});
                     });
  }
}

TEST_P(NormsCudaTest, Backward) {
  for (const auto& [n, c] : kSizes) {
    for (const bool accumulate_dx : {false, true}) {
      SCOPED_TRACE(::testing::Message() << n << " x " << c << ", accumulate " << accumulate_dx);
      const ParityOperand matrix{{n, c}, dtype()}, row{{c}, dtype()}, statistic{{n}, DType::kF32};
      const ParityOperand dbias = layer_norm() ? Sum({c}, n) : row;
      // Without accumulation dx replaces dy.
      ExpectFollowsF64({accumulate_dx ? matrix : Result({n, c}, c), matrix, row, statistic,
                        statistic, accumulate_dx ? Result({n, c}, c) : matrix, Sum({c}, n), dbias},
                       [&](const Context& ctx, const Tensors& t) {
                         const Tensor& dx = accumulate_dx ? t[5] : t[0];
                         if (!layer_norm()) {
                           return RmsNormBackward(ctx, t[0], t[1], t[2], kWeightOffset, t[4],
                                                  accumulate_dx, dx, t[6]);
                         }
                         return LayerNormBackward(ctx,
                                                  {.dy = t[0],
                                                   .x = t[1],
                                                   .weight = t[2],
                                                   .mean = t[3],
                                                   .rstd = t[4],
                                                   .dx = dx,
                                                   .dweight = t[6],
                                                   .dbias = t[7]},
                                                  accumulate_dx);
                       });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, NormsCudaTest,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBf16),
                                            ::testing::Bool()),
                         [](const auto& info) {
                           return std::string(DTypeName(std::get<0>(info.param))) +
                                  (std::get<1>(info.param) ? "LayerNorm" : "RmsNorm");
                         });

}  // namespace
}  // namespace strake
