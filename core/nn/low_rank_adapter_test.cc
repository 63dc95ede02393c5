#include "core/nn/low_rank_adapter.h"

#include <cmath>
#include <complex>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/memory/parameter_arena.h"
#include "core/nn/linear.h"
#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using testing::FillNormal;
using testing::MaxAbs;
using testing::RelativeError;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

constexpr int64_t kIn = 7, kOut = 9, kRank = 3;

struct AdapterCase {
  double scale = 1;
  std::vector<ShardRange> parts;
};

// The whole layer; two parts with a gap and an end that no adapter has; one part of it; all columns
// in three parts.
std::vector<AdapterCase> AdapterCases() {
  return {{1, {{0, kOut}}},
          {0.5, {{0, kOut}}},
          {2, {{0, 3}, {5, 8}}},
          {1, {{4, 9}}},
          {1.5, {{0, 4}, {4, 6}, {6, 9}}}};
}

// A frozen layer with an adapter, an input, and a gradient of its output.
struct AdaptedLayer {
  AdaptedLayer(const AdapterCase& c, DType dtype, int64_t rows)
      : weight(base.Add({{"w", kOut}}, {kIn, kOut}, true)),
        bias(base.Add({{"b", kOut}}, {kOut}, false)),
        layer(weight, bias),
        x(dtype, {rows, kIn}),
        dy(dtype, {rows, kOut}) {
    const int64_t num_parts = static_cast<int64_t>(c.parts.size());
    int64_t columns = 0;
    for (const ShardRange& part : c.parts) columns += part.size();
    a = adapters.Add({{"A", num_parts * kRank}}, {kIn, num_parts * kRank}, true);
    b = adapters.Add({{"B", columns}}, {kRank, columns}, true);
    base.Freeze();
    CHECK(base.Allocate(dtype, /*with_gradients=*/false).ok());
    CHECK(adapters.Allocate(dtype, /*with_gradients=*/true).ok());
    layer.set_adapter(LowRankAdapter(a, b, c.scale, c.parts, kOut));
    uint64_t seed = 0;
    for (const Tensor& each :
         {weight->value, bias->value, a->value, b->value, x.tensor(), dy.tensor()}) {
      FillNormal(each, ++seed);
    }
  }

  ParameterArena base, adapters;
  Parameter *weight, *bias, *a, *b;
  Linear layer;
  TestTensor x, dy;
};

// W + scale A B, part by part: the definition.
void MergeInto(const AdapterCase& c, const AdaptedLayer& adapted, const Tensor& weight) {
  int64_t first_column = 0;
  for (size_t g = 0; g < c.parts.size(); ++g) {
    for (int64_t i = 0; i < kIn; ++i) {
      for (int64_t j = 0; j < c.parts[g].size(); ++j) {
        std::complex<double> sum = 0;
        for (int64_t r = 0; r < kRank; ++r) {
          sum += testing::GetElement(adapted.a->value, i * adapted.a->shape[1] + g * kRank + r) *
                 testing::GetElement(adapted.b->value, r * adapted.b->shape[1] + first_column + j);
        }
        const int64_t at = i * kOut + c.parts[g].begin + j;
        testing::SetElement(weight, at, testing::GetElement(weight, at) + c.scale * sum);
      }
    }
    first_column += c.parts[g].size();
  }
}

TEST(LowRankAdapterTest, IsTheLayerWithMergedWeights) {
  const TestContext test;
  const Context& ctx = test;
  for (const AdapterCase& c : AdapterCases()) {
    AdaptedLayer f(c, DType::kF64, 4);
    const auto y = f.layer.Forward(ctx, f.x, nullptr);
    ASSERT_TRUE(y.ok());
    const TestTensor merged(DType::kF64, {kIn, kOut});
    testing::CopyConvert(f.weight->value, merged);
    MergeInto(c, f, merged);
    Parameter weight;
    weight.shape = {kIn, kOut};
    weight.value = merged;
    const auto expected = Linear(&weight, f.bias).Forward(ctx, f.x, nullptr);
    ASSERT_TRUE(expected.ok());
    EXPECT_LT(RelativeError(*y, *expected), 1e-14);
  }
}

// Also with a GELU behind the layer, whose gradient comes first, and one before it.
TEST(LowRankAdapterTest, GradientsByComplexStep) {
  const TestContext test;
  const Context& ctx = test;
  for (const bool gelu : {false, true}) {
    for (const AdapterCase& c : AdapterCases()) {
      AdaptedLayer first(c, DType::kC128, 4);
      const TestTensor input(DType::kC128, {4, kIn});
      FillNormal(input, 9);
      const auto run = [&](LinearSaved* saved, Tensor* u) {
        const auto y = first.layer.Forward(ctx, input, saved, gelu ? u : nullptr);
        CHECK(y.ok());
        return *y;
      };
      LinearSaved saved;
      Tensor u;
      run(&saved, &u);
      // The layer behind the GELU: its input gradient is that of u.
      Tensor dy = first.dy;
      if (gelu) {
        Parameter identity;
        identity.shape = {kOut, kOut};
        const TestTensor ones(DType::kC128, {kOut, kOut});
        testing::FillConstant(ones, 0);
        for (int64_t i = 0; i < kOut; ++i) testing::SetElement(ones, i * (kOut + 1), 1);
        identity.value = ones;
        Linear next(&identity, nullptr);
        LinearSaved next_saved = {.x = u};
        const auto du = next.BackwardInput(ctx, first.dy, &next_saved, u).Wait();
        ASSERT_TRUE(du.ok());
        dy = *du;
      }
      const auto dx = first.layer.BackwardInput(ctx, dy, &saved).Wait();
      ASSERT_TRUE(dx.ok());
      ASSERT_TRUE(first.layer.BackwardWeight(ctx, dy, saved).ok());
      const auto loss = [&] {
        const ActivationScope scope(ctx.arena());
        Tensor scratch;
        return WeightedSum(run(nullptr, &scratch), first.dy);
      };
      for (const auto& [value, grad] : {std::pair<Tensor, Tensor>{input, *dx},
                                        {first.a->value, first.a->grad},
                                        {first.b->value, first.b->grad}}) {
        TestTensor expected(DType::kF64, value.shape());
        ComplexStepGradient(value, loss, expected);
        EXPECT_GT(MaxAbs(expected), 0.1);
        EXPECT_LT(RelativeError(grad, expected), 1e-13) << c.parts.size() << " parts";
      }
    }
  }
}

// An adapter before whose input a GELU stands.
TEST(LowRankAdapterTest, GeluBeforeItByComplexStep) {
  const TestContext test;
  const Context& ctx = test;
  AdaptedLayer f({2, {{0, kOut}}}, DType::kC128, 4);
  Parameter identity;
  identity.shape = {kIn, kIn};
  const TestTensor ones(DType::kC128, {kIn, kIn}), u(DType::kC128, {4, kIn});
  testing::FillConstant(ones, 0);
  for (int64_t i = 0; i < kIn; ++i) testing::SetElement(ones, i * (kIn + 1), 1);
  identity.value = ones;
  FillNormal(u, 9);
  const Linear before(&identity, nullptr);
  const auto run = [&](LinearSaved* saved) {
    Tensor gelu_input;
    const auto x = before.Forward(ctx, u, nullptr, &gelu_input);
    CHECK(x.ok());
    const auto y = f.layer.Forward(ctx, *x, saved);
    CHECK(y.ok());
    return *y;
  };
  LinearSaved saved;
  run(&saved);
  const auto du = f.layer.BackwardInput(ctx, f.dy, &saved, u).Wait();
  ASSERT_TRUE(du.ok());
  TestTensor expected(DType::kF64, {4, kIn});
  ComplexStepGradient(
      u,
      [&] {
        const ActivationScope scope(ctx.arena());
        return WeightedSum(run(nullptr), f.dy);
      },
      expected);
  EXPECT_GT(MaxAbs(expected), 0.1);
  EXPECT_LT(RelativeError(*du, expected), 1e-13);
}

// The gradients of a second micro-batch are added, and cleared ones overwritten.
TEST(LowRankAdapterTest, AccumulatesUnlessCleared) {
  const TestContext test;
  const Context& ctx = test;
  for (const AdapterCase& c : AdapterCases()) {
    AdaptedLayer f(c, DType::kF32, 4);
    const auto run = [&] {
      LinearSaved saved;
      ASSERT_TRUE(f.layer.Forward(ctx, f.x, &saved).ok());
      ASSERT_TRUE(f.layer.BackwardInput(ctx, f.dy, &saved).Wait().ok());
      ASSERT_TRUE(f.layer.BackwardWeight(ctx, f.dy, saved).ok());
    };
    run();
    const TestTensor once(DType::kF32, f.adapters.grads().shape());
    testing::CopyConvert(f.adapters.grads(), once);
    EXPECT_GT(MaxAbs(once), 0);
    run();
    for (int64_t i = 0; i < once->num_elements(); ++i) {
      EXPECT_NEAR(f.adapters.grads().data<float>()[i], 2 * once->data<float>()[i], 1e-4);
    }
    for (ParameterRecord& record : f.adapters.records()) {
      testing::FillConstant(record.parameter.grad, record.parameter.grad_is_overwritten ? NAN : 0);
      record.parameter.grad_is_cleared = record.parameter.grad_is_overwritten;
    }
    run();
    EXPECT_TRUE(testing::SameBits(f.adapters.grads(), once));
  }
}

TEST(LowRankAdapterDeathTest, NamesShapes) {
  ParameterArena arena;
  Parameter* a = arena.Add({{"A", 3}}, {4, 3}, true);
  Parameter* b = arena.Add({{"B", 5}}, {3, 5}, true);
  EXPECT_DEATH(LowRankAdapter(a, b, 1, {{0, 4}}, 5), "a \\[4, 3\\], b \\[3, 5\\]");
  EXPECT_DEATH(LowRankAdapter(a, b, 1, {{1, 6}}, 5), "columns of 5");
  Parameter* w = arena.Add({{"w", 6}}, {4, 6}, true);
  Linear layer(w, nullptr);
  EXPECT_DEATH(layer.set_adapter(LowRankAdapter(a, b, 1, {{0, 5}}, 5)), "adapter of 4 to 5");
}

}  // namespace
}  // namespace strake
