#include "train/plan/memory_plan.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "models/activation_recompute.h"
#include "models/families/families.h"
#include "models/lora_modules.h"
#include "models/model_config.h"
#include "models/transformer.h"
#include "parallel/mesh/mesh.h"
#include "train/engine/engine.h"
#include "train/evaluation/sequence_scorer.h"

namespace strake {
namespace {

EngineOptions Options(int zero) {
  EngineOptions options;
  options.model = *ModelPreset("llama-tiny");
  options.seq_len = 8;
  options.micro_batch = 1;
  options.gradients.zero = zero;
  return options;
}

TEST(CheckpointBytesTest, NothingWhereTheFirstRankHoldsAll) {
  EXPECT_EQ(CheckpointBytes(Options(0), {1, 1, 1, 1}), 0);
  EXPECT_EQ(CheckpointBytes(Options(1), {1, 1, 1, 1}), 0);
  EXPECT_EQ(CheckpointBytes(Options(0), {3, 1, 1, 1}), 0);
}

TEST(CheckpointBytesTest, TheLargestParameterAndAPartOfIt) {
  // gate and up, side by side, are the largest: [C, 2 F].
  const ModelConfig model = Options(0).model;
  const size_t largest = 4 * model.hidden_size * 2 * model.intermediate_size;
  EXPECT_EQ(CheckpointBytes(Options(1), {2, 1, 1, 1}), largest);
  EXPECT_EQ(CheckpointBytes(Options(0), {1, 1, 1, 2}), largest + largest / 2);
  EXPECT_EQ(CheckpointBytes(Options(2), {2, 1, 1, 4}), largest + largest / 4);
}

// With LoRA, the adapters are all that is saved: q, k and v's A side by side are the largest.
TEST(CheckpointBytesTest, OfAdapters) {
  EngineOptions options = Options(1);
  const size_t whole = SnapshotBytes(options);
  options.model.lora = {.rank = 64, .alpha = 64};
  const ModelConfig& model = options.model;
  const size_t largest = 4 * 64 * std::max(3 * model.hidden_size, 2 * model.intermediate_size);
  EXPECT_EQ(CheckpointBytes(options, {2, 1, 1, 1}), largest);
  options.model.lora.rank = 1;
  EXPECT_LT(SnapshotBytes(options), whole / 10);
}

TEST(CheckMemoryTest, CountsEveryLocalRankAndTheCheckpoint) {
  EXPECT_TRUE(CheckMemory(Options(0), {1, 1, 1, 2}, 2).ok());
  EngineOptions huge = Options(0);
  huge.micro_batch = 1 << 16;
  huge.seq_len = 2048;
  const absl::Status status = CheckMemory(huge, {1, 1, 1, 2}, 2);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

// The lower bound must not reject options whose plan fits: without recomputation these layers keep
// eight times as much.
TEST(CheckMemoryTest, AllowsWhatFitsWithFullRecomputationAlone) {
  const auto available = AvailableMemoryBytes();
  if (!available.has_value()) GTEST_SKIP() << "the system does not say how much memory it has";
  EngineOptions options;
  options.model = *ModelPreset("gpt2-tiny");
  options.model.num_layers = 96;
  options.seq_len = 64;
  options.micro_batch = 1024;
  options.activation_recompute = ActivationRecompute::kFull;
  const MeshVector one_rank = {1, 1, 1, 1};
  const double sequence_bytes =
      double(PlanMemory(options, one_rank, 0).activation_bytes) / options.micro_batch;
  // Concurrent tests may use a part.
  options.micro_batch = static_cast<int64_t>(double(*available) / 2 / sequence_bytes);
  EXPECT_TRUE(CheckMemory(options, one_rank, 1).ok()) << CheckMemory(options, one_rank, 1);
  options.activation_recompute = ActivationRecompute::kNone;
  EXPECT_EQ(CheckMemory(options, one_rank, 1).code(), absl::StatusCode::kResourceExhausted);
}

// The bound is below every plan, and close where activations are most of it.
TEST(LeastMemoryBytesTest, IsBelowEveryPlan) {
  int num_close = 0;
  for (const char* model : {"gpt2-tiny", "llama-tiny", "gpt2-mini"}) {
    for (const auto recompute : {ActivationRecompute::kNone, ActivationRecompute::kSelective,
                                 ActivationRecompute::kFull}) {
      for (const Device device : {Device::kCpu, Device::kCuda}) {
        for (const auto& [seq_len, micro_batch] :
             {std::pair<int64_t, int64_t>{64, 1024}, {256, 200}, {8, 3000}, {24, 777}}) {
          for (const MeshVector& sizes : {MeshVector{1, 1, 1, 1}, MeshVector{2, 1, 1, 2}}) {
            EngineOptions options;
            options.model = *ModelPreset(model);
            options.seq_len = seq_len;
            options.micro_batch = micro_batch;
            options.dtype = device == Device::kCuda ? DType::kBf16 : DType::kF32;
            options.device = device;
            options.sequence_parallel = true;
            options.logits_chunk = LogitsChunk::For(device);
            options.activation_recompute = recompute;
            const double least = LeastMemoryBytes(options, sizes);
            const double planned = PlanMemory(options, sizes, 0).total_bytes();
            EXPECT_GT(least, 0);
            EXPECT_LE(least, planned) << model << ", " << seq_len << " x " << micro_batch;
            num_close += least > 0.5 * planned;
          }
        }
      }
    }
  }
  EXPECT_GT(num_close, 60);
}

TEST(LeastMemoryBytesTest, TakesSizesOfWhichThereIsNoPlan) {
  EngineOptions options = Options(0);
  options.seq_len = options.micro_batch = 1'000'000'000;
  EXPECT_GT(LeastMemoryBytes(options, {1, 1, 1, 1}), 1e18);
}

TEST(LeastMemoryBytesTest, OfFewTokensLeavesOutActivations) {
  const EngineOptions options = Options(0);
  const MemoryPlan plan = PlanMemory(options, {2, 1, 1, 2}, 0);
  EXPECT_EQ(LeastMemoryBytes(options, {2, 1, 1, 2}), plan.total_bytes() - plan.activation_bytes);
}

// For N tokens of a GPT-2, all in f32: selective drops the outputs of two norms and a GELU, full
// keeps only two inputs.
TEST(PlanMemoryTest, RecomputedActivationsAreNotKept) {
  EngineOptions options;
  options.model = *ModelPreset("gpt2-mini");
  options.seq_len = options.micro_batch = 64;
  const auto planned = [&options](ActivationRecompute recompute) -> double {
    options.activation_recompute = recompute;
    return PlanMemory(options, {1, 1, 1, 1}, 0).activation_bytes;
  };
  const double none = planned(ActivationRecompute::kNone);
  const double selective = planned(ActivationRecompute::kSelective);
  const double full = planned(ActivationRecompute::kFull);
  // In each layer but the one in its backward pass, which has recomputed all.
  const ModelConfig& model = options.model;
  const double columns = 4.0 * 64 * 64 * (model.num_layers - 1);
  const double width = model.hidden_size;
  EXPECT_NEAR(none - selective, columns * (2 + 4) * width, 0.1 * none);
  EXPECT_GT(none - selective, 0.5 * columns * (2 + 4) * width);
  EXPECT_GT(selective - full, 0.5 * columns * (3 + 1 + 4) * width);
}

TEST(PlanMemoryTest, Gpt2With4096TokensFitsInto3900MegabytesOfACpu) {
  EngineOptions options;
  options.model = *ModelPreset("gpt2-124m");
  options.model.max_positions = options.seq_len = 4096;
  options.micro_batch = 1;
  options.logits_chunk = LogitsChunk::For(Device::kCpu);
  options.activation_recompute = ActivationRecompute::kSelective;
  EXPECT_LT(PlanMemory(options, {1, 1, 1, 1}, 0).total_bytes(), 3.9e9);
}

// Frozen weights have no gradient and no optimizer state.
TEST(PlanMemoryTest, AdaptersOfSmolLm2NeedLessThan45PercentOfFullFineTuning) {
  EngineOptions options;
  options.model = *ModelPreset("smollm2-135m");
  options.seq_len = 512;
  options.micro_batch = 1;
  options.logits_chunk = LogitsChunk::For(Device::kCpu);
  const MemoryPlan full = PlanMemory(options, {1, 1, 1, 1}, 0);
  options.model.lora = {.rank = 16, .alpha = 32};
  const MemoryPlan lora = PlanMemory(options, {1, 1, 1, 1}, 0);
  const size_t adapters = 4 * NumAdapterParameters(options.model);
  EXPECT_EQ(lora.parameter_bytes, full.parameter_bytes + adapters);
  EXPECT_EQ(lora.gradient_bytes, adapters);
  EXPECT_EQ(lora.optimizer_bytes, 2 * adapters + 4 * kNumAdamWScalars);
  EXPECT_LE(double(lora.total_bytes()), 0.45 * double(full.total_bytes()));
  RecordProperty("full_bytes", std::to_string(full.total_bytes()));
  RecordProperty("lora_bytes", std::to_string(lora.total_bytes()));
}

// Buckets hold one parameter each, and three ranks pad each to a multiple of 192 elements.
TEST(PlanMemoryTest, CountsThePaddingOfBucketsAndTheBuffersOfBf16) {
  EngineOptions options = Options(1);
  options.gradients.bucket_bytes = 1;
  ParameterArena arena;
  const Transformer model(options.model, options.seq_len, &arena);
  int64_t all = 0, largest = 0;
  for (const ParameterRecord& record : arena.records()) {
    const int64_t padded = (record.num_elements() + 191) / 192 * 192;
    all += padded;
    largest = std::max(largest, padded);
  }
  EXPECT_GT(all, arena.num_elements());
  for (int rank = 0; rank < 3; ++rank) {
    options.gradients.reduce_in_bf16 = false;
    const MemoryPlan plan = PlanMemory(options, {3, 1, 1, 1}, rank);
    EXPECT_EQ(plan.parameter_bytes, 4 * all);
    EXPECT_EQ(plan.gradient_bytes, 4 * all);
    EXPECT_EQ(plan.optimizer_bytes, 4 * (2 * all / 3 + kNumAdamWScalars));
    options.gradients.reduce_in_bf16 = true;
    EXPECT_EQ(PlanMemory(options, {3, 1, 1, 1}, rank).gradient_bytes, 4 * all + 2 * 2 * largest);
  }
}

// The activations of a pass of `num_tokens`, in a step and in the scoring of sequences.
size_t StepBytes(const EngineOptions& options, const MeshVector& sizes, int64_t num_tokens) {
  const Mesh mesh = Mesh::DryRun(sizes, 0, nullptr);
  const auto engine = Engine::DryRun(options, mesh, nullptr);
  const Tensor tokens(nullptr, DType::kI32, {num_tokens}, options.device);
  EXPECT_TRUE(engine->AccumulateGradients(tokens, tokens, 1, /*last=*/true).ok());
  return engine->memory_plan().activation_bytes;
}
size_t ScoringBytes(const EngineOptions& options, const MeshVector& sizes, const PassShape& shape) {
  const Mesh mesh = Mesh::DryRun(sizes, 0, nullptr);
  const auto engine = Engine::DryRun(options, mesh, nullptr);
  return SequenceScorer::ActivationBytes(engine->context(), engine->model(), shape);
}

// Chunks of 208 tokens' logits are tiles of 128; up to 200 tokens they are one.
TEST(PlanMemoryTest, HoldsPassesOfFewerTokens) {
  EngineOptions options = Options(0);
  options.model.num_layers = 1;
  options.model.vocab_size = 4096;
  options.micro_batch = 26;
  for (const auto& [device, tp] :
       {std::pair{Device::kCpu, 1}, {Device::kCpu, 2}, {Device::kCuda, 2}}) {
    const MeshVector sizes = {1, 1, 1, tp};
    options.device = device;
    options.sequence_parallel = tp > 1;
    options.logits_chunk = {.max_bytes = size_t{200} * 4096 / tp * 4, .min_rows = 1};
    const size_t planned = PlanMemory(options, sizes, 0).activation_bytes;
    EXPECT_GT(planned, StepBytes(options, sizes, 208)) << "fewer tokens need more";
    for (int64_t batch = 1; batch <= 208 / tp; ++batch) {
      EXPECT_LE(ScoringBytes(options, sizes, {batch, tp}), planned) << batch;
    }
    for (int64_t batch = 1; batch <= 26; ++batch) {
      EXPECT_LE(StepBytes(options, sizes, 8 * batch), planned) << batch;
      EXPECT_LE(ScoringBytes(options, sizes, {batch, 8}), planned) << batch;
    }
  }
}

TEST(PlanMemoryTest, ShardsDivideWhatTheyDivide) {
  const MemoryPlan whole = PlanMemory(Options(0), {1, 1, 1, 1}, 0);
  const MemoryPlan zero1 = PlanMemory(Options(1), {2, 1, 1, 1}, 0);
  EXPECT_EQ(zero1.parameter_bytes, whole.parameter_bytes);
  EXPECT_EQ(zero1.gradient_bytes, whole.gradient_bytes);
  // A rank's parts are multiples of 64 elements.
  EXPECT_NEAR(zero1.optimizer_bytes, whole.optimizer_bytes / 2.0, 2 * 64 * 4);
  const MemoryPlan tp = PlanMemory(Options(0), {1, 1, 1, 4}, 0);
  EXPECT_LT(tp.parameter_bytes, whole.parameter_bytes / 3);
  EXPECT_GT(tp.parameter_bytes, whole.parameter_bytes / 4);
  EXPECT_LT(tp.activation_bytes, whole.activation_bytes);
}

}  // namespace
}  // namespace strake
