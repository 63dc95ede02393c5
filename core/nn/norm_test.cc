#include "core/nn/norm.h"

#include <string>
#include <tuple>
#include <vector>

#include "core/memory/parameter_arena.h"
#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using testing::CopyConvert;
using testing::FillConstant;
using testing::FillNormal;
using testing::MaxAbs;
using testing::RelativeError;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

enum class Kind { kLayerNorm, kRmsNorm, kRmsNormPlusOne };
constexpr const char* kKindNames[] = {"LayerNorm", "RmsNorm", "RmsNormPlusOne"};

// A kind of norm, and whether there is a residual.
class NormTest : public ::testing::TestWithParam<std::tuple<Kind, bool>> {};

TEST_P(NormTest, GradientsByComplexStepAndAnnouncements) {
  const auto [kind, with_residual] = GetParam();
  const bool layer_norm = kind == Kind::kLayerNorm;
  ParameterArena arena;
  const Parameter* weight = arena.Add({{"weight", 6}}, {6}, false);
  const Parameter* bias = layer_norm ? arena.Add({{"bias", 6}}, {6}, false) : nullptr;
  ASSERT_TRUE(arena.Allocate(DType::kC128, true).ok());
  FillNormal(weight->value, 1);
  if (layer_norm) FillNormal(bias->value, 2);
  const Norm norm(weight, bias, 1e-3, kind == Kind::kRmsNormPlusOne ? 1 : 0);

  TestContext ctx;
  std::vector<const Parameter*> ready;
  ctx.context().set_on_grad_ready([&](const Parameter& p) { ready.push_back(&p); });
  TestTensor x(DType::kC128, {4, 6}), dy(DType::kC128, {4, 6}), dx(DType::kC128, {4, 6}),
      branch(DType::kC128, {4, 6}), stream(DType::kC128, {4, 6});
  FillNormal(x, 3);
  FillNormal(stream, 5);
  const Tensor residual = with_residual ? stream.tensor() : Tensor();
  FillNormal(dy, 4);
  FillConstant(dx, 7);
  const auto loss = [&] {
    const ActivationScope scope(ctx.context().arena());
    NormSaved saved;
    CopyConvert(x, branch);  // becomes the sum
    return WeightedSum(*norm.Forward(ctx, branch, residual, &saved), dy);
  };
  NormSaved saved;
  CopyConvert(x, branch);
  ASSERT_TRUE(norm.Forward(ctx, branch, residual, &saved).ok());
  EXPECT_EQ(saved.x.raw(), branch->raw());
  ASSERT_TRUE(norm.Backward(ctx, dy, saved, /*accumulate_dx=*/true, dx).ok());
  EXPECT_EQ(ready.size(), layer_norm ? 2u : 1u);

  TestTensor expected(DType::kF64, {4, 6});
  ComplexStepGradient(x, loss, expected);
  for (int i = 0; i < 24; ++i) expected->data<double>()[i] += 7;  // the test asks for +=
  EXPECT_LT(RelativeError(dx, expected), 1e-14);
  if (with_residual) {
    ComplexStepGradient(residual, loss, expected);
    for (int i = 0; i < 24; ++i) expected->data<double>()[i] += 7;
    EXPECT_LT(RelativeError(dx, expected), 1e-14);
  }
  for (const Parameter* parameter : ready) {
    TestTensor gradient(DType::kF64, {6});
    ComplexStepGradient(parameter->value, loss, gradient);
    EXPECT_GT(MaxAbs(gradient), 0.1);
    EXPECT_LT(RelativeError(parameter->grad, gradient), 1e-13)
        << (parameter == weight ? "weight" : "bias");
  }
}

// Two micro-batches, whose weight passes come after both input passes.
TEST_P(NormTest, TwoPassesHaveTheBitsOfOne) {
  const auto [kind, accumulate_dx] = GetParam();
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF64}) {
    ParameterArena arena;
    const Parameter* weight = arena.Add({{"weight", 70}}, {70}, false);
    const Parameter* bias =
        kind == Kind::kLayerNorm ? arena.Add({{"bias", 70}}, {70}, false) : nullptr;
    ASSERT_TRUE(arena.Allocate(dtype, true).ok());
    FillNormal(arena.values(), 1);
    const Norm norm(weight, bias, 1e-3, kind == Kind::kRmsNormPlusOne ? 1 : 0);
    TestContext ctx;
    TestTensor x(dtype, {2 * 9, 70}), dy(dtype, {2 * 9, 70}), expected(dtype, {2 * 9, 70}),
        dx(dtype, {2 * 9, 70}), grads(arena.grads().dtype(), arena.grads().shape());
    FillNormal(x, 3);
    FillNormal(dy, 4);
    FillNormal(expected, 5);
    FillNormal(dx, 5);
    NormSaved saved[2];
    const auto rows = [](const TestTensor& t, int m) { return t->Rows(m * 9, (m + 1) * 9); };
    for (const int m : {0, 1}) {
      ASSERT_TRUE(norm.Forward(ctx, rows(x, m), Tensor(), &saved[m]).ok());
      ASSERT_TRUE(norm.Backward(ctx, rows(dy, m), saved[m], accumulate_dx, rows(expected, m)).ok());
    }
    CopyConvert(arena.grads(), grads);
    EXPECT_GT(MaxAbs(grads), 0.1);
    FillConstant(arena.grads(), 0);
    std::vector<const Parameter*> ready;
    ctx.context().set_on_grad_ready([&](const Parameter& p) { ready.push_back(&p); });
    for (const int m : {0, 1}) {
      ASSERT_TRUE(norm.BackwardInput(ctx, rows(dy, m), accumulate_dx, rows(dx, m), &saved[m]).ok());
    }
    EXPECT_EQ(MaxAbs(arena.grads()), 0);
    EXPECT_TRUE(ready.empty());
    for (const int m : {0, 1}) ASSERT_TRUE(norm.BackwardWeight(ctx, saved[m]).ok());
    EXPECT_TRUE(testing::SameBits(dx, expected));
    EXPECT_TRUE(testing::SameBits(arena.grads(), grads));
    EXPECT_EQ(ready.size(), bias != nullptr ? 4u : 2u);
  }
}

TEST(NormDeathTest, BackwardWeightReadsDy) {
  ParameterArena arena;
  const Parameter* weight = arena.Add({{"weight", 6}}, {6}, false);
  ASSERT_TRUE(arena.Allocate(DType::kF32, true).ok());
  const Norm norm(weight, nullptr, 1e-3);
  TestContext ctx;
  TestTensor x(DType::kF32, {4, 6}), dy(DType::kF32, {4, 6});
  FillNormal(x, 3);
  FillNormal(dy, 4);
  NormSaved saved;
  ASSERT_TRUE(norm.Forward(ctx, x, Tensor(), &saved).ok());
  EXPECT_DEATH((void)norm.BackwardWeight(ctx, saved), "before BackwardInput");
  EXPECT_DEATH((void)norm.BackwardInput(ctx, dy, false, dy, &saved), "dx would overwrite dy");
}

// The same dx, and nothing for parameters that have no gradient.
TEST_P(NormTest, FrozenParametersGetNoGradient) {
  const auto [kind, with_residual] = GetParam();
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    ParameterArena arena;
    const Parameter* weight = arena.Add({{"weight", 6}}, {6}, false);
    const Parameter* bias =
        kind == Kind::kLayerNorm ? arena.Add({{"bias", 6}}, {6}, false) : nullptr;
    ASSERT_TRUE(arena.Allocate(dtype, true).ok());
    FillNormal(arena.values(), 1);
    const Norm norm(weight, bias, 1e-3, kind == Kind::kRmsNormPlusOne ? 1 : 0);
    TestContext ctx;
    TestTensor x(dtype, {4, 6}), dy(dtype, {4, 6}), expected(dtype, {4, 6}), dx(dtype, {4, 6});
    FillNormal(x, 3);
    FillNormal(dy, 4);
    NormSaved saved;
    ASSERT_TRUE(norm.Forward(ctx, x, Tensor(), &saved).ok());
    ASSERT_TRUE(norm.Backward(ctx, dy, saved, /*accumulate_dx=*/false, expected).ok());
    EXPECT_GT(MaxAbs(arena.grads()), 0);
    FillConstant(arena.grads(), 7);
    arena.Freeze();
    ctx.context().set_on_grad_ready([&](const Parameter&) { ADD_FAILURE() << "announced"; });
    ASSERT_TRUE(norm.Backward(ctx, dy, saved, /*accumulate_dx=*/false, dx).ok());
    EXPECT_TRUE(testing::SameBits(dx, expected));
    for (int i = 0; i < 6; ++i) EXPECT_EQ(testing::GetElement(weight->grad, i), 7.0);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, NormTest,
    ::testing::Combine(::testing::Values(Kind::kLayerNorm, Kind::kRmsNorm, Kind::kRmsNormPlusOne),
                       ::testing::Bool()),
    [](const auto& info) {
      return std::string(kKindNames[static_cast<int>(std::get<0>(info.param))]) +
             (std::get<1>(info.param) ? "OfSum" : "");
    });

TEST(NormDeathTest, LayerNormTakesNoWeightOffset) {
  const Parameter weight, bias;
  EXPECT_DEATH(Norm(&weight, &bias, 1e-3, 1), "bias with weight_offset 1");
}

}  // namespace
}  // namespace strake
