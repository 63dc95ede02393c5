// QkNorm on a GPU, through the op that dispatches to it.
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/qk_norm/qk_norm.h"
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

constexpr double kEps = 1e-2, kOffset = 1;

class QkNormCudaTest : public ::testing::TestWithParam<std::tuple<DType, QkNormKind>> {
 protected:
  DType dtype() const { return std::get<DType>(GetParam()); }
  bool whole() const { return std::get<QkNormKind>(GetParam()) == QkNormKind::kWhole; }
  QkNormHeads Heads(int64_t head_dim) const {
    return {std::get<QkNormKind>(GetParam()), 3, 2, head_dim};
  }
  int64_t QueryColumns(int64_t head_dim) const { return whole() ? 3 * head_dim : head_dim; }
  int64_t KeyColumns(int64_t head_dim) const { return whole() ? 2 * head_dim : head_dim; }

  ParityOperand In(const Shape& shape) const { return {shape, dtype()}; }
  ParityOperand Result(const Shape& shape, int64_t num_terms) const {
    return {shape, dtype(), F32SumTolerance(num_terms) + UnitRoundoff(dtype())};
  }
  ParityOperand Sum(const Shape& shape, int64_t num_terms) const {
    return {shape, DType::kF32, F32SumTolerance(num_terms)};
  }
};

constexpr std::pair<int64_t, int64_t> kSizes[] = {{5, 64}, {3, 7}, {0, 8}};  // rows, head_dim

TEST_P(QkNormCudaTest, Forward) {
  for (const auto& [n, d] : kSizes) {
    SCOPED_TRACE(::testing::Message() << n << " x " << d);
    const QkNormHeads heads = Heads(d);
    const int64_t columns = QueryColumns(d);
    ExpectFollowsF64(
        {Result({n, 7 * d}, columns), In({columns}), In({KeyColumns(d)}), In({n, 5 * d}),
         Sum({n, heads.num_groups()}, columns)},
        [&](const Context& ctx, const Tensors& t) {
          return QkNormForward(ctx, heads, {t[1], t[2], kOffset}, kEps, {}, t[0], t[3], t[4]);
        });
  }
}

TEST_P(QkNormCudaTest, Backward) {
  for (const auto& [n, d] : kSizes) {
    SCOPED_TRACE(::testing::Message() << n << " x " << d);
    const QkNormHeads heads = Heads(d);
    const Shape query = {QueryColumns(d)}, key = {KeyColumns(d)};
    ExpectFollowsF64(
        {Result({n, 7 * d}, QueryColumns(d)), In({n, 5 * d}), Sum({n, heads.num_groups()}, 1),
         In(query), In(key), Sum(query, 3 * n), Sum(key, 3 * n)},
        [&](const Context& ctx, const Tensors& t) {
          return QkNormBackward(ctx, heads, {t[3], t[4], kOffset}, t[1], t[2], {}, t[0], t[5],
                                t[6]);
        });
  }
}

TEST_P(QkNormCudaTest, WeightsAlone) {
  for (const auto& [n, d] : kSizes) {
    SCOPED_TRACE(::testing::Message() << n << " x " << d);
    const QkNormHeads heads = Heads(d);
    const Shape query = {QueryColumns(d)}, key = {KeyColumns(d)};
    ExpectFollowsF64({In({n, 5 * d}), In({n, 5 * d}), Sum({n, heads.num_groups()}, 1), In(query),
                      In(key), Sum(query, 3 * n), Sum(key, 3 * n)},
                     [&](const Context& ctx, const Tensors& t) {
                       return QkNormBackwardWeight(ctx, heads, {t[3], t[4], kOffset}, t[1], t[2],
                                                   t[0], t[5], t[6]);
                     });
  }
}

TEST_P(QkNormCudaTest, BackwardOfFrozenWeights) {
  const auto& [n, d] = kSizes[0];
  const QkNormHeads heads = Heads(d);
  ExpectFollowsF64(
      {Result({n, 7 * d}, QueryColumns(d)), In({n, 5 * d}), Sum({n, heads.num_groups()}, 1),
       In({QueryColumns(d)}), In({KeyColumns(d)})},
      [&](const Context& ctx, const Tensors& t) {
        return QkNormBackward(ctx, heads, {t[3], t[4], kOffset}, t[1], t[2], {}, t[0], {}, {});
      });
}

TEST_P(QkNormCudaTest, SumsOfAllRanks) {
  if (!whole()) return;
  for (const auto& [n, d] : kSizes) {
    SCOPED_TRACE(::testing::Message() << n << " x " << d);
    QkNormHeads heads = Heads(d);
    heads.num_ranks = 2;
    const Shape query = {QueryColumns(d)}, key = {KeyColumns(d)};
    ExpectFollowsF64(
        {Result({n, 7 * d}, 3 * d), In(query), In(key), In({n, 5 * d}), Sum({n, 2}, 3 * d),
         Sum({n, 2}, 3 * d)},
        [&](const Context& ctx, const Tensors& t) {
          const absl::Status summed = QkNormForwardSums(ctx, heads, t[0], t[4]);
          if (!summed.ok()) return summed;
          return QkNormForward(ctx, heads, {t[1], t[2], kOffset}, kEps, t[4], t[0], t[3], t[5]);
        });
    ExpectFollowsF64(
        {Result({n, 7 * d}, 3 * d), In({n, 5 * d}), Sum({n, 2}, 1), In(query), In(key),
         Sum(query, n), Sum(key, n), Sum({n, 2}, 3 * d)},
        [&](const Context& ctx, const Tensors& t) {
          const QkNormWeights weights = {t[3], t[4], kOffset};
          const absl::Status summed = QkNormBackwardSums(ctx, heads, weights, t[1], t[0], t[7]);
          if (!summed.ok()) return summed;
          return QkNormBackward(ctx, heads, weights, t[1], t[2], t[7], t[0], t[5], t[6]);
        });
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, QkNormCudaTest,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBf16),
                                            ::testing::Values(QkNormKind::kPerHead,
                                                              QkNormKind::kWhole)),
                         [](const auto& info) {
                           return std::string(DTypeName(std::get<0>(info.param))) +
                                  (std::get<1>(info.param) == QkNormKind::kWhole ? "Whole"
                                                                                 : "PerHead");
                         });

}  // namespace
}  // namespace strake
