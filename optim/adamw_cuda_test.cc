// AdamW on a GPU, against the CPU's.
#include <cmath>
#include <optional>
#include <vector>

#include "core/base/philox.h"
#include "core/cuda/cuda_runtime.h"
#include "core/memory/device_memory.h"
#include "core/memory/parameter_arena.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "optim/adamw.h"

namespace strake {
namespace {

using testing::CopyConvert;
using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::FillNormal;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;

AdamWStep StepAt(int t) {
  return {.lr = 0.01 / t, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .step = t};
}

HostCopy ToHost(const Tensor& x) { return HostCopy::Of(x).value(); }

void FillWithNormal(const Tensor& x, uint64_t seed, double scale) {
  const HostCopy host = ToHost(x);
  FillNormal(host.tensor(), seed, scale);
  EXPECT_TRUE(host.WriteBack().ok());
}

// Matrices and biases of ragged sizes, on either device; weights are bf16 numbers in every dtype.
class Model {
 public:
  Model(DType dtype, Device device) {
    arena_.Add({{"a", 7}}, {5, 7}, true);
    arena_.Add({{"a.bias", 7}}, {7}, false);
    arena_.Add({{"b", 3}}, {70, 3}, true);
    arena_.Add({{"norm", 130}}, {130}, false);
    EXPECT_TRUE(arena_.Allocate(dtype, true, device).ok());
    for (const ParameterRecord& p : arena_.records()) {
      const TestTensor bf16(DType::kBf16, p.shape());
      FillNormal(bf16, StableHash(p.name()));
      const HostCopy value = ToHost(p.parameter.value);
      CopyConvert(bf16, value.tensor());
      EXPECT_TRUE(value.WriteBack().ok());
    }
  }
  void FillGrads(uint64_t step) {
    for (const ParameterRecord& p : arena_.records()) {
      FillWithNormal(p.parameter.grad, StableHash(p.name()) + step, 0.1);
    }
  }
  const ParameterArena& arena() const { return arena_; }
  const Tensor& values() const { return arena_.values(); }
  int64_t size() const { return arena_.num_elements(); }

 private:
  ParameterArena arena_;
};

AdamW Over(const ParameterArena& arena, const std::vector<ShardRange>& ranges) {
  std::vector<ArenaPart> grads;
  for (const ShardRange& range : ranges) {
    grads.push_back({range.begin, arena.grads().Rows(range.begin, range.end)});
  }
  auto adamw = AdamW::Create(arena, grads);
  CHECK(adamw.ok()) << adamw.status();
  CHECK(adamw->SetMasters().ok());
  return *std::move(adamw);
}
AdamW Whole(const ParameterArena& arena) { return Over(arena, {{0, arena.num_elements()}}); }

TestTensor& Clip(double norm, double scale, TestTensor& clip) {
  clip->data<double>()[0] = norm;
  clip->data<double>()[1] = scale;
  return clip;
}

// Waits for the GPU after every step, as SetStep() requires.
void Train(const CudaTestContext& gpu, Model& model, std::vector<AdamW*> adamws, int last) {
  const Context& ctx = gpu;
  TestTensor half(DType::kF64, {2});
  const CudaTestTensor clip(Clip(1, 0.5, half));
  for (int t = 1; t <= last; ++t) {
    model.FillGrads(t);
    for (AdamW* adamw : adamws) {
      adamw->SetStep(StepAt(t));
      ASSERT_TRUE(adamw->Step(ctx, clip).ok());
    }
    ASSERT_TRUE(SynchronizeCudaStream(ctx.cuda_stream()).ok());
  }
}

void TrainOnCpu(Model& model, AdamW& adamw, int last) {
  const TestContext ctx;
  TestTensor half(DType::kF64, {2});
  Clip(1, 0.5, half);
  for (int t = 1; t <= last; ++t) {
    model.FillGrads(t);
    adamw.SetStep(StepAt(t));
    ASSERT_TRUE(adamw.Step(ctx, half).ok());
  }
}

TEST(AdamWCudaTest, FollowsTheReference) {
  constexpr int kSteps = 4;
  Model expected(DType::kF64, Device::kCpu);
  AdamW reference = Whole(expected.arena());
  TrainOnCpu(expected, reference, kSteps);
  const CudaTestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    Model model(dtype, Device::kCuda);
    AdamW adamw = Whole(model.arena());
    Train(ctx, model, {&adamw}, kSteps);
    // Per step a weight rounds about twice; its update, at most lr = 1/100 of it, some ten times.
    const double bound = kSteps * 3 * testing::UnitRoundoff(DType::kF32);
    const Tensor& weights = dtype == DType::kBf16 ? adamw.masters() : model.values();
    EXPECT_LE(RelativeError(ToHost(weights), expected.values()), bound) << DTypeName(dtype);
    EXPECT_LE(RelativeError(ToHost(adamw.exp_avg()), reference.exp_avg()), 2 * bound);
    EXPECT_LE(RelativeError(ToHost(adamw.exp_avg_sq()), reference.exp_avg_sq()), 2 * bound);
    const TestTensor rounded(dtype, weights.shape());
    CopyConvert(ToHost(weights), rounded);
    EXPECT_TRUE(SameBits(ToHost(model.values()), rounded)) << DTypeName(dtype);
  }
}

// Empty ranges, and boundaries within parameters and off the vectors' alignment.
TEST(AdamWCudaTest, RangesGiveTheBitsOfTheWhole) {
  const CudaTestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    Model whole(dtype, Device::kCuda), parts(dtype, Device::kCuda);
    AdamW expected = Whole(whole.arena());
    Train(ctx, whole, {&expected}, 2);
    AdamW none = Over(parts.arena(), {{0, 0}}), second = Over(parts.arena(), {{64, 211}}),
          others = Over(parts.arena(), {{0, 64}, {211, parts.size()}});
    Train(ctx, parts, {&none, &second, &others}, 2);
    EXPECT_TRUE(SameBits(ToHost(parts.values()), ToHost(whole.values()))) << DTypeName(dtype);
    EXPECT_TRUE(SameBits(ToHost(second.exp_avg_sq()), ToHost(expected.exp_avg_sq().Rows(64, 211))));
  }
}

TEST(AdamWCudaTest, SmallUpdatesOfBf16WeightsAddUp) {
  const CudaTestContext gpu;
  const Context& ctx = gpu;
  ParameterArena arena;
  arena.Add({{"w", 64}}, {64}, false);
  ASSERT_TRUE(arena.Allocate(DType::kBf16, true, Device::kCuda).ok());
  for (const Tensor& x : {arena.values(), arena.grads()}) {
    const HostCopy host = ToHost(x);
    testing::FillConstant(host.tensor(), 1);
    ASSERT_TRUE(host.WriteBack().ok());
  }
  AdamW adamw = Whole(arena);
  for (int t = 1; t <= 40; ++t) {
    AdamWStep step = StepAt(t);
    step.lr = 0x1p-8 / 10;  // a fifth of the difference that a bf16 below 1 resolves
    adamw.SetStep(step);
    ASSERT_TRUE(adamw.Step(ctx, Tensor()).ok());
    EXPECT_EQ(testing::GetElement(ToHost(arena.values()), 5) == 1.0, t < 5) << t;
  }
  EXPECT_EQ(testing::GetElement(ToHost(arena.values()), 5), 1 - 0x1p-6);
}

TEST(AdamWCudaTest, ANormThatIsNotFiniteUpdatesNothing) {
  const CudaTestContext ctx;
  Model model(DType::kBf16, Device::kCuda), before(DType::kBf16, Device::kCuda);
  model.FillGrads(1);
  AdamW adamw = Whole(model.arena());
  adamw.SetStep(StepAt(1));
  for (const auto& [norm, scale] :
       std::vector<std::pair<double, double>>{{NAN, NAN}, {NAN, 1}, {INFINITY, 0}, {INFINITY, 1}}) {
    TestTensor host(DType::kF64, {2});
    const CudaTestTensor clip(Clip(norm, scale, host));
    ASSERT_TRUE(adamw.Step(ctx, clip).ok());
    EXPECT_TRUE(SameBits(ToHost(model.values()), ToHost(before.values()))) << norm << " " << scale;
    EXPECT_EQ(MaxAbs(ToHost(adamw.exp_avg())), 0) << norm << " " << scale;
    EXPECT_EQ(MaxAbs(ToHost(adamw.exp_avg_sq())), 0) << norm << " " << scale;
  }
}

// One recording runs all steps: only gradients and pinned memory change between its launches.
TEST(AdamWCudaTest, AGraphTakesTheStepThatIsSet) {
  const CudaTestContext gpu;
  const Context& ctx = gpu;
  Model model(DType::kBf16, Device::kCuda), expected(DType::kBf16, Device::kCuda);
  AdamW adamw = Whole(model.arena()), reference = Whole(expected.arena());
  Train(gpu, expected, {&reference}, 3);
  TestTensor half(DType::kF64, {2});
  const CudaTestTensor clip(Clip(1, 0.5, half));
  std::optional<CudaGraph> graph;
  for (int t = 1; t <= 3; ++t) {
    model.FillGrads(t);
    adamw.SetStep(StepAt(t));
    if (!graph.has_value()) {
      auto captured = CudaGraph::Capture(ctx.cuda_stream(), [&] { return adamw.Step(ctx, clip); });
      ASSERT_TRUE(captured.ok()) << captured.status();
      graph = *std::move(captured);
    }
    ASSERT_TRUE(graph->Launch(ctx.cuda_stream()).ok());
    ASSERT_TRUE(SynchronizeCudaStream(ctx.cuda_stream()).ok());
  }
  EXPECT_TRUE(SameBits(ToHost(model.values()), ToHost(expected.values())));
  EXPECT_TRUE(SameBits(ToHost(adamw.masters()), ToHost(reference.masters())));
}

}  // namespace
}  // namespace strake
