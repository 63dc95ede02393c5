// One model, any layout: over a covering array of models and layouts, every loss, gradient norm,
// gradient and weight of several training steps equals one rank's, and each rank that holds an
// element has the same value.
#include "tests/layout_equality.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "core/base/status_macros.h"
#include "core/tensor/tensor_buffer.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "models/model_config.h"
#include "models/transformer.h"
#include "parallel/mesh/run_on_threads.h"
#include "parallel/pipeline/schedule.h"
#include "tests/layout_case.h"
#include "tests/layout_model.h"
#include "tests/train_layout.h"
#include "train/engine/engine.h"

namespace strake {
namespace {

using testing::LayoutCase;

// In f64 the limit is the promised one. In f32 it is computed. A number of the backward pass has
// passed through a chain of sums (12 in each block and 3 of the embedding, last norm and head, in
// both directions, and the weight gradient: 55 in two blocks), each of at most n terms: the widths
// and the tokens of the batch. Two more sums, of the loss and the head's input gradient, are over
// the vocabulary. The roundings are independent of each other, so that they add up in quadrature;
// both runs make them; and the largest of a tensor's thousands of errors is about four times their
// root mean square. The weights of later steps differ by as much again per step. Adapters add two
// sums to each of the four products of a block, in both directions.
//
// Reduced in bf16, a gradient also errs by 2 roundings to bf16 of the sum of the ranks' magnitudes
// (parallel/data/gradient_reducer.h), which is taken to be up to dp cp times the tensor's largest
// gradient.
double Tolerance(const LayoutCase& layout, int step) {
  if (layout.dtype == DType::kF64) return 1e-12;
  const double reduced = layout.reduce_in_bf16 && layout.dp * layout.cp > 1
                             ? 2 * layout.dp * layout.cp * testing::UnitRoundoff(DType::kBf16)
                             : 0;
  const double num_terms = std::max<double>(48, layout.GlobalBatch() * layout.kSeqLen);
  const double num_sums = (layout.lora_rank > 0 ? 40.0 : 24.0) * layout.num_layers + 7;
  const double num_roundings = 2 * (num_sums * num_terms + 2 * layout.vocab_size);
  return step * (4 * std::sqrt(num_roundings) * testing::UnitRoundoff(DType::kF32) + reduced);
}

TensorBuffer CopyOf(const Tensor& x) {
  TensorBuffer copy(x.dtype(), x.shape());
  testing::CopyConvert(x, copy.tensor());
  return copy;
}

absl::Status ExpectTrainsAdaptersAlone(const LayoutCase& layout, Engine* engine) {
  const TensorBuffer base = CopyOf(engine->base()->values());
  const TensorBuffer adapters = CopyOf(engine->parameters().values());
  const int64_t num_tokens = layout.micro_batch * layout.kSeqLen;
  const testing::TestTensor tokens(DType::kI32, {num_tokens});
  testing::FillTokens(tokens, 1, layout.vocab_size);
  for (int step = 1; step <= 2; ++step) {
    STRAKE_RETURN_IF_ERROR(engine->AccumulateGradients(tokens, tokens, 0.1, /*last=*/true));
    STRAKE_RETURN_IF_ERROR(engine->SumGradients());
    STRAKE_RETURN_IF_ERROR(engine->Update({.lr = 1e-2, .step = step}, /*clip_norm=*/1).status());
    STRAKE_RETURN_IF_ERROR(engine->Agree(/*stop=*/false).status());
  }
  STRAKE_RETURN_IF_ERROR(engine->CompareReplicas());
  EXPECT_TRUE(testing::SameBits(engine->base()->values(), base.tensor()));
  EXPECT_FALSE(testing::SameBits(engine->parameters().values(), adapters.tensor()));
  EXPECT_FALSE(engine->base()->grads().defined());
  const MemoryPlan plan = engine->memory_plan();
  const auto bytes = [](const Tensor& x) { return x.num_bytes(); };
  EXPECT_EQ(plan.parameter_bytes,
            bytes(engine->base()->values()) + bytes(engine->parameters().values()));
  // Of adapters alone: gradients and their slots; both moments and a master; AdamW's scalars.
  const size_t num_trained = engine->parameters().num_elements();
  EXPECT_LE(plan.gradient_bytes, 2 * 4 * num_trained);
  EXPECT_LE(plan.optimizer_bytes, 3 * 4 * num_trained + 64);
  return absl::OkStatus();
}

class LayoutEqualityTest : public ::testing::TestWithParam<LayoutCase> {};

TEST_P(LayoutEqualityTest, TrainsTheModelOfOneRank) {
  const LayoutCase& layout = GetParam();
  testing::ExpectTrainsTheModelOfOneRank(layout, layout.OnOneRank(),
                                         [&](int step) { return Tolerance(layout, step); });
}

// GPT-2 and Llama on every number of ranks that can shard them, and the other models on some, in
// f64, where the smallest mistake shows.
std::vector<LayoutCase> EveryModelOnEveryTp() {
  std::vector<LayoutCase> cases;
  const auto add = [&](LayoutCase c) {
    for (const bool sequence_parallel : {false, true}) {
      c.sequence_parallel = sequence_parallel;
      if (!CheckTensorParallel(c.Model(), c.tp).ok()) continue;
      c.zero = static_cast<int>(cases.size() % 3);
      c.num_micro_batches = 2;
      cases.push_back(c);
    }
  };
  for (const int tp : {2, 3, 4, 8}) {
    for (const bool tied : {false, true}) {
      add({.tied = tied, .tp = tp, .dp = 2});
      for (const int num_kv_heads : {24, 12, 2, 1}) {
        add({.model = "llama", .tied = tied, .num_kv_heads = num_kv_heads, .tp = tp, .dp = 2});
      }
    }
  }
  for (const testing::LayoutModel& model : testing::LayoutModels()) {
    if (model.name == "gpt2" || model.name == "llama") continue;
    add({.model = model.name, .tp = 3, .dp = 2});
    if (model.grouped_heads) add({.model = model.name, .num_kv_heads = 2, .tp = 4, .dp = 2});
  }
  return cases;
}

// Adapters of every model, whose weights are frozen, in f64.
std::vector<LayoutCase> AdaptersOfEveryModel() {
  constexpr ActivationRecompute kRecompute[] = {
      ActivationRecompute::kNone, ActivationRecompute::kSelective, ActivationRecompute::kFull};
  std::vector<LayoutCase> cases;
  const auto add = [&](LayoutCase c) {
    c.lora_rank = 3;
    c.sequence_parallel = cases.size() % 2 == 1;
    c.zero = static_cast<int>(cases.size() % 3);
    c.activation_recompute = kRecompute[cases.size() / 2 % 3];
    c.num_micro_batches = 2;
    ASSERT_TRUE(CheckTensorParallel(c.Model(), c.tp).ok()) << c.ToString();
    cases.push_back(c);
  };
  for (const testing::LayoutModel& model : testing::LayoutModels()) {
    add({.model = model.name, .tied = cases.size() % 3 == 0, .tp = 2, .dp = 2});
    if (model.grouped_heads) add({.model = model.name, .num_kv_heads = 2, .tp = 4, .dp = 2});
  }
  add({.model = "llama", .num_kv_heads = 1, .tp = 4, .dp = 1});
  add({.model = "llama", .num_kv_heads = 2, .tp = 8, .dp = 1});
  // Small buckets, so that they cut an adapter's matrices.
  add({.model = "llama", .num_kv_heads = 4, .tp = 2, .dp = 3, .bucket_bytes = 256});
  return cases;
}

// Two stages of each schedule, beside both other axes.
std::vector<LayoutCase> PipelinesOfSlices() {
  std::vector<LayoutCase> cases;
  for (const PipelineKind kind : kPipelineKinds) {
    for (const bool tied : {false, true}) {
      const int chunks = kind == PipelineKind::kInterleaved ? 2 : 1;
      cases.push_back({.model = tied ? "gemma2" : "llama",
                       .tied = tied,
                       .num_kv_heads = 2,
                       .num_layers = 2 * chunks,
                       .tp = 2,
                       .dp = 2,
                       .pp = 2,
                       .schedule = kind,
                       .chunks = chunks,
                       .sequence_parallel = tied,
                       .zero = static_cast<int>(cases.size() % 3),
                       .num_micro_batches = 3});
    }
  }
  return cases;
}

const auto kCaseName = [](const auto& info) { return info.param.ToString(); };

INSTANTIATE_TEST_SUITE_P(Models, LayoutEqualityTest, ::testing::ValuesIn(EveryModelOnEveryTp()),
                         kCaseName);
INSTANTIATE_TEST_SUITE_P(Adapters, LayoutEqualityTest, ::testing::ValuesIn(AdaptersOfEveryModel()),
                         kCaseName);
INSTANTIATE_TEST_SUITE_P(Pipelines, LayoutEqualityTest, ::testing::ValuesIn(PipelinesOfSlices()),
                         kCaseName);
INSTANTIATE_TEST_SUITE_P(Layouts, LayoutEqualityTest,
                         ::testing::ValuesIn(testing::CoveringLayoutCases()), kCaseName);

// Steps change adapters alone. The plan has no gradient, master or moment of other weights.
TEST(LayoutAdaptersTest, FrozenWeightsKeepTheirBits) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const LayoutCase layout = {
        .model = "llama", .lora_rank = 3, .tp = 2, .dp = 2, .zero = 2, .dtype = dtype};
    const absl::Status status =
        RunOnThreads(layout.Sizes(), {.timeout = std::chrono::minutes(1), .check = true},
                     [&](const Mesh& mesh) -> absl::Status {
                       STRAKE_ASSIGN_OR_RETURN(const auto engine, MakeEngine(layout, mesh));
                       return ExpectTrainsAdaptersAlone(layout, engine.get());
                     });
    EXPECT_TRUE(status.ok()) << status;
  }
}

}  // namespace
}  // namespace strake
