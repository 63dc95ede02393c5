#include "optim/adamw.h"

#include <cmath>
#include <cstring>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "core/base/philox.h"
#include "core/memory/parameter_arena.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::CopyConvert;
using testing::FillNormal;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;

constexpr AdamWStep kStep = {
    .lr = 0.01, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .step = 1};

// Matrices and biases of ragged sizes: four ranges, the third of two neighbours with a gap between.
class Model {
 public:
  explicit Model(DType dtype) {
    arena_.Add({{"a", 7}}, {5, 7}, true);
    arena_.Add({{"a.bias", 7}}, {7}, false);
    arena_.Add({{"b", 3}}, {70, 3}, true);
    arena_.Add({{"c", 1}}, {1, 1}, true);
    arena_.Add({{"norm", 130}}, {130}, false);
    EXPECT_TRUE(arena_.Allocate(dtype, true).ok());
    for (const ParameterRecord& p : arena_.records())
      FillNormal(p.parameter.value, StableHash(p.name()));
  }
  void FillGrads(uint64_t step) {
    for (const ParameterRecord& p : arena_.records()) {
      FillNormal(p.parameter.grad, StableHash(p.name()) + step, 0.1);
    }
  }
  ParameterArena& arena() { return arena_; }

 private:
  ParameterArena arena_;
};

absl::StatusOr<AdamW> Whole(const ParameterArena& arena) {
  return AdamW::Create(arena, {{0, arena.grads()}});
}

// {norm, scale}.
class Clip {
 public:
  Clip(double norm, double scale) : tensor_(DType::kF64, {2}) {
    tensor_->data<double>()[0] = norm;
    tensor_->data<double>()[1] = scale;
  }
  operator const Tensor&() const { return tensor_; }  // NOLINT(google-explicit-constructor)

 private:
  TestTensor tensor_;
};

absl::Status DoStep(const Context& ctx, AdamW& adamw, const AdamWStep& step,
                    const Tensor& clip = Tensor()) {
  adamw.SetStep(step);
  return adamw.Step(ctx, clip);
}

AdamWStep StepAt(int t) {
  AdamWStep step = kStep;
  step.step = t;
  return step;
}

void Train(const Context& ctx, Model& model, AdamW& adamw, int first, int last) {
  const Clip half(1, 0.5);
  for (int t = first; t <= last; ++t) {
    model.FillGrads(t);
    ASSERT_TRUE(DoStep(ctx, adamw, StepAt(t), half).ok());
  }
}

// Trains by the definition, one parameter element at a time.
void TrainByDefinition(Model& model, int steps) {
  for (const ParameterRecord& p : model.arena().records()) {
    std::vector<double> m(p.num_elements()), v(p.num_elements());
    for (int t = 1; t <= steps; ++t) {
      FillNormal(p.parameter.grad, StableHash(p.name()) + t, 0.1);
      for (int64_t i = 0; i < p.num_elements(); ++i) {
        double& w = p.parameter.value.data<double>()[i];
        const double g = 0.5 * p.parameter.grad.data<double>()[i];
        m[i] = kStep.beta1 * m[i] + (1 - kStep.beta1) * g;
        v[i] = kStep.beta2 * v[i] + (1 - kStep.beta2) * g * g;
        if (p.weight_decay) w -= kStep.lr * kStep.weight_decay * w;
        const double m_hat = m[i] / (1 - std::pow(kStep.beta1, t));
        const double v_hat = v[i] / (1 - std::pow(kStep.beta2, t));
        w -= kStep.lr * m_hat / (std::sqrt(v_hat) + kStep.eps);
      }
    }
  }
}

TEST(AdamWTest, FollowsTheDefinition) {
  constexpr int kSteps = 5;
  Model expected(DType::kF64);
  TrainByDefinition(expected, kSteps);
  const TestContext ctx;
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    Model model(dtype);
    auto adamw = Whole(model.arena());
    ASSERT_TRUE(adamw.ok());
    Train(ctx, model, *adamw, 1, kSteps);
    // Per step a weight rounds about twice; its update, lr = 1/100 of it, some ten times.
    const double bound = kSteps * 3 * testing::UnitRoundoff(dtype);
    EXPECT_LE(RelativeError(model.arena().values(), expected.arena().values()), bound)
        << DTypeName(dtype);
  }
}

TEST(AdamWTest, TheFirstStepMovesByTheLearningRate) {
  const TestContext ctx;
  Model model(DType::kF64), before(DType::kF64);
  model.FillGrads(1);
  auto adamw = Whole(model.arena());
  ASSERT_TRUE(adamw.ok());
  AdamWStep step = kStep;
  step.weight_decay = 0;
  ASSERT_TRUE(DoStep(ctx, *adamw, step).ok());
  for (int i = 0; i < 5; ++i) {
    const ParameterRecord& p = model.arena().records()[i];
    for (int64_t j = 0; j < p.num_elements(); ++j) {
      const double g = p.parameter.grad.data<double>()[j];
      const double w = before.arena().records()[i].parameter.value.data<double>()[j];
      // m_hat is g and v_hat is g^2, up to a few roundings; weights stay below 8.
      EXPECT_NEAR(p.parameter.value.data<double>()[j] - w, -step.lr * g / (std::abs(g) + step.eps),
                  8 * 4 * 0x1p-53);
    }
  }
}

TEST(AdamWTest, DecaysOnlyWhatDecays) {
  const TestContext ctx;
  Model model(DType::kF32), before(DType::kF32);
  auto adamw = Whole(model.arena());
  ASSERT_TRUE(adamw.ok());
  AdamWStep step = kStep;
  step.lr = 0.5;
  step.weight_decay = 0.5;  // with zero gradients, each step decays weights to 3/4
  ASSERT_TRUE(DoStep(ctx, *adamw, step).ok());
  for (int i = 0; i < 5; ++i) {
    const ParameterRecord& p = model.arena().records()[i];
    const ParameterRecord& q = before.arena().records()[i];
    for (int64_t j = 0; j < p.num_elements(); ++j) {
      const float factor = p.weight_decay ? 0.75f : 1.0f;
      EXPECT_EQ(p.parameter.value.data<float>()[j], factor * q.parameter.value.data<float>()[j])
          << p.name();
    }
  }
}

TEST(AdamWTest, GapsStayZero) {
  const TestContext ctx;
  Model model(DType::kF32);
  auto adamw = Whole(model.arena());
  ASSERT_TRUE(adamw.ok());
  Train(ctx, model, *adamw, 1, 2);
  std::vector<bool> is_gap(model.arena().num_elements(), true);
  for (const ParameterRecord& p : model.arena().records()) {
    for (int64_t i = 0; i < p.num_elements(); ++i) is_gap[p.offset + i] = false;
  }
  for (const Tensor& array : {model.arena().values(), adamw->exp_avg(), adamw->exp_avg_sq()}) {
    for (int64_t i = 0; i < array.num_elements(); ++i) {
      EXPECT_EQ(array.data<float>()[i] == 0, is_gap[i]) << i;
    }
  }
}

TEST(AdamWTest, ResumingGivesTheSameBits) {
  const TestContext ctx;
  Model straight(DType::kF32), resumed(DType::kF32);
  auto one = Whole(straight.arena());
  ASSERT_TRUE(one.ok());
  Train(ctx, straight, *one, 1, 6);
  auto first = Whole(resumed.arena());
  ASSERT_TRUE(first.ok());
  Train(ctx, resumed, *first, 1, 3);
  auto second = Whole(resumed.arena());
  ASSERT_TRUE(second.ok());
  const auto copy = [](const Tensor& from, const Tensor& to) {
    std::memcpy(to.raw(), from.raw(), from.num_bytes());
  };
  copy(first->exp_avg(), second->exp_avg());
  copy(first->exp_avg_sq(), second->exp_avg_sq());
  Train(ctx, resumed, *second, 4, 6);
  EXPECT_TRUE(SameBits(resumed.arena().values(), straight.arena().values()));
  EXPECT_TRUE(SameBits(second->exp_avg(), one->exp_avg()));
  EXPECT_TRUE(SameBits(second->exp_avg_sq(), one->exp_avg_sq()));
}

TEST(AdamWTest, TheSameBitsWithAnyNumberOfThreads) {
  Model one(DType::kF32), three(DType::kF32);
  for (auto [model, num_threads] : {std::pair{&one, 1}, {&three, 3}}) {
    const TestContext ctx(OpSet::kAuto, num_threads);
    auto adamw = Whole(model->arena());
    ASSERT_TRUE(adamw.ok());
    Train(ctx, *model, *adamw, 1, 2);
  }
  EXPECT_TRUE(SameBits(one.arena().values(), three.arena().values()));
}

TEST(AdamWTest, ANormThatIsNotFiniteUpdatesNothing) {
  const TestContext ctx;
  Model model(DType::kF32), before(DType::kF32);
  model.FillGrads(1);
  auto adamw = Whole(model.arena());
  ASSERT_TRUE(adamw.ok());
  for (const Clip& clip : {Clip(NAN, NAN), Clip(INFINITY, 0), Clip(NAN, 1)}) {
    ASSERT_TRUE(DoStep(ctx, *adamw, kStep, clip).ok());
    EXPECT_TRUE(SameBits(model.arena().values(), before.arena().values()));
    EXPECT_EQ(testing::MaxAbs(adamw->exp_avg()), 0);
    EXPECT_EQ(testing::MaxAbs(adamw->exp_avg_sq()), 0);
  }
  ASSERT_TRUE(DoStep(ctx, *adamw, kStep, Clip(1, 1)).ok());
  EXPECT_FALSE(SameBits(model.arena().values(), before.arena().values()));
}

// The masters equal f32 weights; the weights are the masters, rounded.
TEST(AdamWTest, Bf16WeightsAreRoundedMasters) {
  const TestContext ctx;
  Model rounded(DType::kBf16), whole(DType::kF32);
  CopyConvert(rounded.arena().values(), whole.arena().values());
  auto adamw = Whole(rounded.arena()), expected = Whole(whole.arena());
  ASSERT_TRUE(adamw.ok() && expected.ok());
  ASSERT_TRUE(adamw->SetMasters().ok());
  EXPECT_TRUE(SameBits(adamw->masters(), whole.arena().values()));
  Train(ctx, rounded, *adamw, 1, 3);
  Train(ctx, whole, *expected, 1, 3);
  EXPECT_TRUE(SameBits(adamw->masters(), whole.arena().values()));
  EXPECT_TRUE(SameBits(adamw->exp_avg(), expected->exp_avg()));
  TestTensor of_masters(DType::kBf16, whole.arena().values().shape());
  CopyConvert(adamw->masters(), of_masters);
  EXPECT_TRUE(SameBits(rounded.arena().values(), of_masters));
}

// Updates of a hundredth of the resolution of a bf16 near 1: each alone would be lost.
TEST(AdamWTest, SmallUpdatesOfBf16WeightsAddUp) {
  const TestContext ctx;
  ParameterArena arena;
  arena.Add({{"w", 64}}, {64}, false);
  ASSERT_TRUE(arena.Allocate(DType::kBf16, true).ok());
  testing::FillConstant(arena.values(), 1);
  testing::FillConstant(arena.grads(), 1);
  auto adamw = Whole(arena);
  ASSERT_TRUE(adamw.ok());
  ASSERT_TRUE(adamw->SetMasters().ok());
  for (int t = 1; t <= 400; ++t) {
    AdamWStep step = StepAt(t);
    step.lr = 0x1p-8 / 100;  // an update is lr, since m_hat = v_hat = 1
    ASSERT_TRUE(DoStep(ctx, *adamw, step).ok());
    EXPECT_TRUE(t > 1 || testing::GetElement(arena.values(), 5) == 1.0);
  }
  // 1 - 4 * 2^-8, up to the masters' roundings, is a bf16.
  EXPECT_EQ(testing::GetElement(arena.values(), 5), 1 - 0x1p-6);
}

TEST(AdamWTest, StateIsTwoArraysOrThree) {
  Model model(DType::kF32);
  const auto adamw = Whole(model.arena());
  ASSERT_TRUE(adamw.ok());
  EXPECT_EQ(AdamW::StateBytes(model.arena(), model.arena().num_elements()),
            4 * (2 * model.arena().num_elements() + kNumAdamWScalars));
  EXPECT_EQ(adamw->exp_avg().shape(), model.arena().values().shape());
  ParameterArena plan;
  plan.Add({{"w", 4}}, {100, 4}, true);
  plan.AllocateDryRun(DType::kF32);
  EXPECT_EQ(AdamW::StateBytes(plan, 448), 4 * (2 * 448 + kNumAdamWScalars));
  ParameterArena bf16;
  bf16.Add({{"w", 4}}, {100, 4}, true);
  bf16.AllocateDryRun(DType::kBf16);
  EXPECT_EQ(AdamW::StateBytes(bf16, 384), 4 * (3 * 384 + kNumAdamWScalars));
}

// Empty ranges, boundaries within parameters, and gradients elsewhere than in the arena. Two
// optimizers have every other range.
TEST(AdamWTest, RangesGiveTheBitsOfTheWhole) {
  const TestContext ctx;
  Model whole(DType::kF32), parts(DType::kF32);
  auto expected = Whole(whole.arena());
  ASSERT_TRUE(expected.ok());
  Train(ctx, whole, *expected, 1, 3);

  const int64_t bounds[] = {0, 0, 64, 192, 230, 384, parts.arena().num_elements()};
  const TestTensor copy(DType::kF32, {parts.arena().num_elements()});
  std::vector<ArenaPart> grads[2];
  for (int i = 0; i + 1 < static_cast<int>(std::size(bounds)); ++i) {
    grads[i % 2].push_back({bounds[i], copy->Rows(bounds[i], bounds[i + 1])});
  }
  std::vector<AdamW> adamws;
  int64_t size = 0;
  for (const std::vector<ArenaPart>& each : grads) {
    auto adamw = AdamW::Create(parts.arena(), each);
    ASSERT_TRUE(adamw.ok());
    size += adamw->size();
    adamws.push_back(*std::move(adamw));
  }
  EXPECT_EQ(size, parts.arena().num_elements());
  for (int t = 1; t <= 3; ++t) {
    parts.FillGrads(t);
    CopyConvert(parts.arena().grads(), copy);
    testing::FillConstant(parts.arena().grads(), 0);  // not read
    for (AdamW& adamw : adamws) ASSERT_TRUE(DoStep(ctx, adamw, StepAt(t), Clip(1, 0.5)).ok());
  }
  EXPECT_TRUE(SameBits(parts.arena().values(), whole.arena().values()));
  const auto expect_same = [](const std::vector<ArenaPart>& of_ranges, const Tensor& all) {
    for (const ArenaPart& part : of_ranges) {
      EXPECT_TRUE(SameBits(part.values, all.Rows(part.begin, part.end()))) << part.begin;
    }
  };
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(adamws[i].Parts(adamws[i].exp_avg()).size(), grads[i].size());
    expect_same(adamws[i].Parts(adamws[i].exp_avg()), expected->exp_avg());
    expect_same(adamws[i].Parts(adamws[i].exp_avg_sq()), expected->exp_avg_sq());
    expect_same(adamws[i].UnroundedWeights(), whole.arena().values());
  }
}

TEST(AdamWTest, MastersOfRangesAreTheirWeights) {
  Model model(DType::kBf16);
  const ArenaPart all{0, model.arena().grads()};
  auto adamw =
      AdamW::Create(model.arena(), {{64, all.Rows({64, 128})}, {192, all.Rows({192, 230})}});
  ASSERT_TRUE(adamw.ok() && adamw->SetMasters().ok());
  for (const ArenaPart& part : adamw->UnroundedWeights()) {
    const TestTensor weights(DType::kF32, part.values.shape());
    CopyConvert(model.arena().values().Rows(part.begin, part.end()), weights);
    EXPECT_TRUE(SameBits(part.values, weights)) << part.begin;
    EXPECT_GT(testing::MaxAbs(part.values), 0);
  }
}

TEST(AdamWDeathTest, NeedsGradientsAndEps) {
  ParameterArena arena;
  arena.Add({{"w", 4}}, {4}, true);
  ASSERT_TRUE(arena.Allocate(DType::kF32, false).ok());
  EXPECT_DEATH((void)Whole(arena), "\\[adamw\\] values f32\\[64\\], gradients");
  const TestTensor grads(DType::kF32, {64});
  EXPECT_DEATH((void)AdamW::Create(arena, {{1, grads}}), "gradients f32\\[64\\] from 1");
  const TestContext ctx;
  Model model(DType::kF32);
  auto adamw = Whole(model.arena());
  ASSERT_TRUE(adamw.ok());
  AdamWStep step = kStep;
  step.eps = 0;
  EXPECT_DEATH(adamw->SetStep(step), "\\[adamw\\] eps 0");
  EXPECT_DEATH((void)adamw->Step(ctx, Tensor()), "\\[adamw\\] Step\\(\\) before SetStep");
  Model bf16(DType::kBf16);
  auto without_masters = Whole(bf16.arena());
  ASSERT_TRUE(without_masters.ok());
  EXPECT_DEATH((void)DoStep(ctx, *without_masters, kStep),
               "\\[adamw\\] Step\\(\\) before SetMasters");
}

}  // namespace
}  // namespace strake
