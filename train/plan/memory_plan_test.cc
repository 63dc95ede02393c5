#include "train/plan/memory_plan.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "gtest/gtest.h"
#include "models/activation_recompute.h"
#include "models/families/families.h"
#include "models/lora_modules.h"
#include "models/model_config.h"
#include "models/transformer.h"
#include "parallel/context/context_parallel.h"
#include "parallel/mesh/mesh.h"
#include "parallel/mesh/run_on_threads.h"
#include "parallel/pipeline/schedule.h"
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

// Llama in stages of unlike memory: `layers` of its parts.
EngineOptions Staged(std::vector<int64_t> layers, int64_t micro_batches) {
  EngineOptions options = Options(0);
  options.micro_batch = 4;
  options.model.num_layers = std::accumulate(layers.begin(), layers.end(), int64_t{0});
  options.pipeline.layers = std::move(layers);
  options.pipeline.micro_batches = micro_batches;
  return options;
}

size_t StageBytes(const EngineOptions& options, const MeshVector& sizes, int stage) {
  return PlanMemory(options, sizes, RankOf(sizes, {.dp = 0, .pp = stage, .cp = 0, .tp = 0}))
      .total_bytes();
}

// A GPU for each rank: each stage alone must fit, and the first stage's rank must save.
TEST(CheckMemoryTest, RefusesABudgetBetweenTwoStages) {
  for (const int dearest : {0, 1, 2}) {
    std::vector<int64_t> layers = {1, 1, 1};
    layers[dearest] = 20;
    const EngineOptions options = Staged(layers, /*micro_batches=*/3);
    const MeshVector sizes = {.dp = 2, .pp = 3, .cp = 1, .tp = 1};
    const size_t save = CheckpointBytes(options, sizes);
    size_t most = 0, others = 0;
    for (int stage = 0; stage < 3; ++stage) {
      const size_t bytes = StageBytes(options, sizes, stage) + (stage == 0 ? save : 0);
      (stage == dearest ? most : others) = std::max(stage == dearest ? most : others, bytes);
    }
    ASSERT_GT(most, others);
    EXPECT_TRUE(CheckMemory(options, sizes, 1, {most, ""}).ok());
    for (const size_t budget : {most - 1, others + (most - others) / 2, others}) {
      const absl::Status status = CheckMemory(options, sizes, 1, {budget, ""});
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
      // The message of a lower bound has no stage.
      if (budget != most - 1) continue;
      EXPECT_NE(
          status.message().find(absl::StrCat("(the most in stage ", dearest, " of 3: weights ")),
          std::string::npos)
          << status;
    }
  }
}

// Ranks that follow each other share a machine: two of one stage, or all of the run.
TEST(CheckMemoryTest, SumsTheRanksOfAMachine) {
  const EngineOptions options = Staged({2, 9}, /*micro_batches=*/4);
  const MeshVector sizes = {.dp = 2, .pp = 2, .cp = 1, .tp = 2};
  const size_t save = CheckpointBytes(options, sizes);
  const size_t first = StageBytes(options, sizes, 0), last = StageBytes(options, sizes, 1);
  ASSERT_GT(last, first + save);
  const auto expect_needs = [&](int num_ranks, size_t bytes, const char* text) {
    EXPECT_TRUE(CheckMemory(options, sizes, num_ranks, {bytes, ""}).ok()) << num_ranks;
    const absl::Status status = CheckMemory(options, sizes, num_ranks, {bytes - 1, ""});
    EXPECT_NE(status.message().find(text), std::string::npos) << status;
  };
  expect_needs(2, 2 * last, " on each of 2 ranks)");
  expect_needs(4, 2 * first + 2 * last + save, " on each of 2 ranks; to save, ");
  expect_needs(8, 4 * first + 4 * last + save, " on each of 4 ranks; to save, ");
}

TEST(CheckMemoryTest, NamesWhatDoesNotFitTheStages) {
  const absl::Status status = CheckMemory(Staged({2, 9}, 4), {1, 3, 1, 1}, 3);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
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
          for (const MeshVector& sizes : {MeshVector{1, 1, 1, 1}, MeshVector{2, 1, 1, 2},
                                          MeshVector{1, 1, 2, 1}, MeshVector{1, 1, 4, 2}}) {
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
            EXPECT_LE(least, planned)
                << model << ", " << seq_len << " x " << micro_batch << ", " << sizes.ToString();
            num_close += least > 0.5 * planned;
          }
        }
      }
    }
  }
  EXPECT_GT(num_close, 60);
}

TEST(LeastMemoryBytesTest, IsBelowThePlanOfEveryStage) {
  for (const Device device : {Device::kCpu, Device::kCuda}) {
    for (const PipelineKind kind : kPipelineKinds) {
      EngineOptions options;
      options.model = *ModelPreset("gpt2-mini");
      options.seq_len = 64;
      options.micro_batch = 1024;
      options.device = device;
      options.dtype = device == Device::kCuda ? DType::kBf16 : DType::kF32;
      options.logits_chunk = LogitsChunk::For(device);
      options.pipeline = {
          .kind = kind, .chunks = kind == PipelineKind::kInterleaved ? 2 : 1, .micro_batches = 3};
      for (int stage = 0; stage < 2; ++stage) {
        const double least = LeastMemoryBytes(options, {1, 2, 1, 1}, stage);
        const double planned = StageBytes(options, {1, 2, 1, 1}, stage);
        EXPECT_LE(least, planned) << PipelineKindName(kind) << ", stage " << stage;
        EXPECT_GT(least, 0.5 * planned) << PipelineKindName(kind) << ", stage " << stage;
      }
    }
  }
}

TEST(LeastMemoryBytesTest, TakesSizesOfWhichThereIsNoPlan) {
  EngineOptions options = Options(0);
  options.seq_len = options.micro_batch = 1'000'000'000;
  options.pipeline.micro_batches = 2;
  EXPECT_GT(LeastMemoryBytes(options, {1, 1, 1, 1}), 1e18);
  EXPECT_GT(LeastMemoryBytes(options, {1, 2, 1, 1}, /*stage=*/1), 1e18);
}

TEST(LeastMemoryBytesTest, OfFewTokensLeavesOutActivations) {
  const EngineOptions options = Options(0);
  const MemoryPlan plan = PlanMemory(options, {2, 1, 1, 2}, 0);
  EXPECT_EQ(LeastMemoryBytes(options, {2, 1, 1, 2}), plan.total_bytes() - plan.activation_bytes);
}

// Ranks of cp have their tokens' activations, and share the optimizer's state as those of dp do.
TEST(PlanMemoryTest, ContextParallelRanksHaveTheirShare) {
  EngineOptions options = Options(0);
  options.seq_len = 64;
  options.gradients.zero = 1;
  const MemoryPlan one = PlanMemory(options, {1, 1, 1, 1}, 0);
  const MemoryPlan dp = PlanMemory(options, {4, 1, 1, 1}, 0);
  for (const ContextComm comm : {ContextComm::kRing, ContextComm::kAllGather}) {
    options.context_comm = comm;
    for (const MeshVector& sizes : {MeshVector{1, 1, 4, 1}, MeshVector{2, 1, 2, 1}}) {
      const absl::Status status = RunOnThreads(sizes, {}, [&](const Mesh& mesh) -> absl::Status {
        STRAKE_ASSIGN_OR_RETURN(const auto engine, Engine::Create(options, mesh));
        const MemoryPlan planned = PlanMemory(options, sizes, mesh.rank());
        EXPECT_EQ(engine->memory_plan().total_bytes(), planned.total_bytes());
        EXPECT_EQ(planned.optimizer_bytes,
                  PlanMemory(options, {4, 1, 1, 1}, mesh.rank()).optimizer_bytes);
        EXPECT_LT(planned.activation_bytes, one.activation_bytes);
        return absl::OkStatus();
      });
      EXPECT_TRUE(status.ok()) << status;
    }
  }
  EXPECT_EQ(CheckpointBytes(options, {1, 1, 4, 1}), CheckpointBytes(options, {4, 1, 1, 1}));
  EXPECT_LT(dp.optimizer_bytes, one.optimizer_bytes);
}

// For N tokens of a GPT-2, all in f32: selective drops the outputs of two norms and a GELU, full
// keeps only two inputs.
// Engines allocate what is planned of their rank, and a step's passes fit.
TEST(PlanMemoryTest, IsWhatEnginesOfEveryStageAllocate) {
  for (const PipelineKind kind : kPipelineKinds) {
    EngineOptions options = Staged({1, 2, 1, 3}, /*micro_batches=*/4);
    options.pipeline.kind = kind;
    const int chunks = options.pipeline.chunks = kind == PipelineKind::kInterleaved ? 2 : 1;
    const MeshVector sizes = {.dp = 1, .pp = 4 / chunks, .cp = 1, .tp = 1};
    std::vector<size_t> planned(sizes.pp);
    const absl::Status status = RunOnThreads(sizes, {}, [&](const Mesh& mesh) -> absl::Status {
      STRAKE_ASSIGN_OR_RETURN(const auto engine, Engine::Create(options, mesh));
      planned[mesh.rank()] = StageBytes(options, sizes, mesh.rank());
      EXPECT_EQ(engine->memory_plan().total_bytes(), planned[mesh.rank()]);
      return absl::OkStatus();
    });
    ASSERT_TRUE(status.ok()) << status;
    for (const size_t bytes : planned) EXPECT_GT(bytes, 0);
    EXPECT_NE(planned.front(), planned.back());
  }
}

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
