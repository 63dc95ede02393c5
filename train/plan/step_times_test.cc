// Closed forms, derived by hand from the model's sizes.
#include "train/plan/step_times.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/activation_recompute.h"
#include "models/families/gpt2.h"
#include "models/families/llama.h"
#include "train/engine/step_record.h"

namespace strake {
namespace {

// B sequences of T tokens, L layers of width C = H D, F in the middle, V tokens.
constexpr int64_t B = 4, T = 256, L = 3, H = 4, D = 64, C = H * D, F = 512, V = 512, N = B * T;

EngineOptions Sized(const ModelFamily& family) {
  EngineOptions o;
  o.model = family.new_config();
  o.model.vocab_size = V;
  o.model.max_positions = T;
  o.model.hidden_size = C;
  o.model.num_layers = L;
  o.model.num_heads = H;
  o.model.num_kv_heads = &family == &kLlamaFamily ? H / 2 : H;
  o.model.head_dim = D;
  o.model.intermediate_size = F;
  o.model.tie_word_embeddings = &family == &kGpt2Family;
  o.seq_len = T;
  o.micro_batch = B;
  o.dtype = DType::kBf16;
  o.device = Device::kCuda;
  return o;
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<OpCall> Calls(const EngineOptions& options, const MeshVector& sizes = {1, 1, 1, 1},
                          int64_t num_micro_batches = 1) {
  return RecordStep(options, sizes, /*rank=*/0, num_micro_batches).calls;
}

StepTimes Times(const std::vector<OpCall>& calls, const GpuRates& rates,
                const StepRemedies& remedies = {}) {
  const auto times = ForecastStep(calls, rates, remedies);
  EXPECT_TRUE(times.ok()) << times.status();
  return times.value_or(StepTimes());
}

// With every other rate, nothing takes any time.
GpuRates Only(GpuRate rate, const Forecast& value) {
  GpuRates rates = GpuRates::H200();
  for (const GpuRateRow& row : rates.rows()) rates = rates.With(row.rate, kInfinity);
  for (const GpuRate none : {GpuRate::kGap, GpuRate::kLinkLatency, GpuRate::kContention}) {
    rates = rates.With(none, 0);
  }
  return rates.With(rate, value);
}

double SecondsWithOnly(GpuRate rate, const std::vector<OpCall>& calls) {
  return Times(calls, Only(rate, 1)).sum.seconds.expected;
}

TEST(StepTimesTest, FlopsOfAGpt2) {
  const std::vector<OpCall> calls = Calls(Sized(kGpt2Family));
  const double layer = 2.0 * N * (4 * C * C + 2 * C * F);
  const double attention = 2.0 * B * H * D * T * (T + 1);
  EXPECT_DOUBLE_EQ(SecondsWithOnly(GpuRate::kSmallProduct, calls), 2 * L * layer);
  EXPECT_DOUBLE_EQ(SecondsWithOnly(GpuRate::kSmallWeightGradient, calls), L * layer);
  EXPECT_DOUBLE_EQ(SecondsWithOnly(GpuRate::kSmallHead, calls), 3 * 2.0 * N * C * V);
  EXPECT_DOUBLE_EQ(SecondsWithOnly(GpuRate::kShortForward64, calls), L * attention);
  EXPECT_DOUBLE_EQ(SecondsWithOnly(GpuRate::kShortBackward64, calls), 2.5 * L * attention);
  EXPECT_EQ(SecondsWithOnly(GpuRate::kLargeProduct, calls), 0);
  EXPECT_EQ(SecondsWithOnly(GpuRate::kLink, calls), 0);
}

// Passes over activations of N x C in bf16, and weights: the terms that a review would add up.
TEST(StepTimesTest, BytesOfALlama) {
  const std::vector<OpCall> calls = Calls(Sized(kLlamaFamily));
  const StepTimes times = Times(calls, GpuRates::H200());
  const auto bytes = [&](const std::string& name) {
    for (const CallTimeRow& row : times.rows) {
      if (row.name == name) return row.bytes;
    }
    ADD_FAILURE() << "no row " << name;
    return 0.0;
  };
  const double activation = 2.0 * N * C, statistics = 4.0 * N, weight = 2.0 * C;
  // The first norm has no residual to add, and no sum to write.
  EXPECT_DOUBLE_EQ(bytes("norm, forward"),
                   (2 + 4 * 2 * L) * activation + (2 * L + 1) * (weight + statistics));
  EXPECT_DOUBLE_EQ(bytes("SwiGLU, forward"), L * 2.0 * N * (2 * F + F));
  EXPECT_DOUBLE_EQ(bytes("SwiGLU, backward"), L * 2.0 * N * (F + 2 * F + 2 * F));
  // Two tiles of 128, of whose 2 x 2 three are not above the diagonal.
  EXPECT_DOUBLE_EQ(bytes("attention, backward: dS"), L * 4.0 * B * H * 3 * 128 * 128);
  EXPECT_DOUBLE_EQ(bytes("attention, backward: groups of heads"), L * 2 * 2 * 2.0 * N * C);
  // Untied tables, four matrices of attention and MLP per layer, and norms: 30 bytes of each.
  const double parameters = 2.0 * V * C + L * (2.0 * C * C + C * C + 3.0 * C * F + 2 * C) + C;
  EXPECT_DOUBLE_EQ(bytes("AdamW"), 30 * parameters);
}

TEST(StepTimesTest, GapsCountKernels) {
  const std::vector<OpCall> calls = Calls(Sized(kGpt2Family));
  int64_t varying = 0;  // how many runs of parameters there are
  for (const OpCall& call : calls) {
    const std::string op = call.op;
    varying += op == "set_zero" || op == "adamw";
  }
  const int64_t forward = 2 + L * (4 + 1) + (2 * L + 1), loss = 1 + 1 + 2 + 1;
  const int64_t backward = (2 * L + 1) * 2 + L * (8 + 4 + 3) + 1 + 8;
  const int64_t clipping = 2 + 1;
  EXPECT_EQ(SecondsWithOnly(GpuRate::kGap, calls), forward + loss + backward + clipping + varying);
}

TEST(StepTimesTest, ASlowerRateSlowsItsClassAlone) {
  const std::vector<OpCall> calls = Calls(Sized(kGpt2Family));
  const GpuRates rates = GpuRates::H200().With(GpuRate::kCopy, kInfinity);
  const GpuRates slower =
      rates.With(GpuRate::kSmallProduct, rates[GpuRate::kSmallProduct] * Forecast(0.5));
  const StepTimes before = Times(calls, rates), after = Times(calls, slower);
  double slowed = 0;
  for (size_t i = 0; i < before.rows.size(); ++i) {
    const double x = before.rows[i].seconds.expected, y = after.rows[i].seconds.expected;
    if (x == y) continue;
    EXPECT_EQ(before.rows[i].name, rates.rows()[static_cast<int>(GpuRate::kSmallProduct)].name);
    EXPECT_NEAR(y, 2 * x, 1e-9 * x);
    slowed += y - x;
  }
  EXPECT_GT(slowed, 0);
  EXPECT_NEAR(after.sum.seconds.expected - before.sum.seconds.expected, slowed, 1e-9 * slowed);
}

TEST(StepTimesTest, RowsAndOpsHaveTheSameSum) {
  const StepTimes times = Times(Calls(Sized(kGpt2Family)), GpuRates::H200());
  Forecast ops, gaps;
  for (const auto& [op, seconds] : times.ops) ops += seconds;
  for (const CallTimeRow& row : times.rows) {
    if (row.name == "gaps between kernels") gaps = row.seconds;
  }
  EXPECT_NEAR(ops.low + gaps.low, times.sum.seconds.low, 1e-12);
  EXPECT_NEAR(ops.ceiling + gaps.ceiling, times.sum.seconds.ceiling, 1e-12);
  EXPECT_GT(times.sum.seconds.low, times.sum.seconds.expected);
  EXPECT_GT(times.sum.seconds.expected, times.sum.seconds.ceiling);
}

TEST(StepTimesTest, MicroBatchesRepeatAllButTheOptimizer) {
  const EngineOptions options = Sized(kLlamaFamily);
  const std::vector<OpCall> one = Calls(options), five = Calls(options, {1, 1, 1, 1}, 5);
  for (const GpuRate rate : {GpuRate::kSmallProduct, GpuRate::kShortBackward64}) {
    EXPECT_DOUBLE_EQ(SecondsWithOnly(rate, five), 5 * SecondsWithOnly(rate, one));
  }
  const auto adamw = [](const std::vector<OpCall>& calls) {
    return Times(calls, GpuRates::H200()).ops[{"adamw", Pass::kOptimizer}];
  };
  EXPECT_EQ(adamw(five), adamw(one));
}

TEST(StepTimesTest, EveryRemedySavesTime) {
  EngineOptions options = Sized(kGpt2Family);
  options.gradients.zero = 1;
  const std::vector<OpCall> calls = Calls(options, {.dp = 2, .pp = 1, .cp = 1, .tp = 1});
  const double none = Times(calls, GpuRates::H200()).sum.seconds.expected;
  for (const StepRemedy& remedy : AllStepRemedies()) {
    StepRemedies remedies;
    remedies.*remedy.member = true;
    EXPECT_LT(Times(calls, GpuRates::H200(), remedies).sum.seconds.expected, none) << remedy.name;
  }
}

TEST(StepTimesTest, OneLaunchOfAdamWHasNoGapsWithin) {
  const std::vector<OpCall> calls = Calls(Sized(kGpt2Family));
  int64_t launches = 0;
  for (const OpCall& call : calls) launches += std::string(call.op) == "adamw";
  ASSERT_GT(launches, 1);
  const GpuRates gaps = Only(GpuRate::kGap, 1);
  EXPECT_EQ(Times(calls, gaps).sum.seconds.expected -
                Times(calls, gaps, {.one_adamw_launch = true}).sum.seconds.expected,
            launches - 1);
}

// A new op must get its row in the table of call_times.cc.
TEST(StepTimesTest, CoversTheCallsOfEveryStep) {
  std::set<std::string> ops;
  for (const ModelFamily* family : {&kGpt2Family, &kLlamaFamily}) {
    for (const MeshVector& sizes : {MeshVector{1, 1, 1, 1}, MeshVector{2, 1, 1, 2}}) {
      for (const int zero : {0, 1, 2}) {
        for (const auto recompute : {ActivationRecompute::kNone, ActivationRecompute::kFull}) {
          EngineOptions options = Sized(*family);
          options.gradients.zero = zero;
          options.gradients.reduce_in_bf16 = zero == 2;
          options.sequence_parallel = zero == 1;
          options.activation_recompute = recompute;
          const std::vector<OpCall> calls = Calls(options, sizes, /*num_micro_batches=*/3);
          Times(calls, GpuRates::H200());
          for (const OpCall& call : calls) ops.insert(call.op);
        }
      }
    }
  }
  EXPECT_GE(ops.size(), 20) << "the steps together have nearly all ops";
}

}  // namespace
}  // namespace strake
