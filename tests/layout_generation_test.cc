// Generation on tensor-parallel ranks: the same tokens and logits as on one rank. In the stages of
// a pipeline: the same bits as in one stage. On context-parallel ranks: the same logits.
#include <chrono>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "core/device/context.h"
#include "core/memory/activation_arena.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/decoder.h"
#include "models/generator.h"
#include "models/model_parts.h"
#include "parallel/mesh/run_on_threads.h"
#include "tests/full_tensors.h"
#include "tests/layout_case.h"
#include "tests/layout_model.h"
#include "tests/train_layout.h"
#include "train/engine/inference_model.h"

namespace strake::testing {
namespace {

using ::testing::HasSubstr;

const std::vector<int32_t> kPrompt = {5, 46, 0, 17};
constexpr size_t kArenaBytes = size_t{1} << 20;
constexpr int64_t kNumNewTokens = 9;  // fills the model's positions

// Greedy, in f32.
absl::StatusOr<std::vector<int32_t>> Generate(const Context& ctx, const ModelParts& model) {
  std::vector<int32_t> tokens;
  STRAKE_RETURN_IF_ERROR(
      GenerateTokens(ctx, model, kPrompt, kNumNewTokens, {.temperature = 0}, [&](int64_t token) {
        tokens.push_back(static_cast<int32_t>(token));
        return absl::OkStatus();
      }));
  return tokens;
}

// The same for prompts of several lengths at a time.
absl::StatusOr<std::vector<std::vector<int32_t>>> GenerateTogether(const Context& ctx,
                                                                   const ModelParts& model) {
  const std::vector<std::vector<int32_t>> prompts = {kPrompt, {3}, {40, 40, 2}};
  std::vector<std::vector<int32_t>> texts(prompts.size());
  STRAKE_RETURN_IF_ERROR(GenerateAll(ctx, model, prompts,
                                     {.max_tokens = kNumNewTokens, .sampling = {.temperature = 0}},
                                     [&](const GeneratedToken& token) {
                                       texts[token.prompt].push_back(token.token);
                                       return absl::OkStatus();
                                     }));
  return texts;
}

// The logits after the prompt at once, and then after each of `next`.
absl::StatusOr<std::vector<double>> DecodeLogits(const Context& ctx, const ModelParts& model,
                                                 std::vector<int32_t> next) {
  const int64_t vocab = model.front().config().vocab_size;
  const int64_t prompt = kPrompt.size(), num_tokens = prompt + next.size();
  std::vector<int32_t> tokens = kPrompt;
  tokens.insert(tokens.end(), next.begin(), next.end());
  std::vector<KvCache> caches;
  for (int i = 0; i < model.size(); ++i) {
    STRAKE_ASSIGN_OR_RETURN(KvCache cache, KvCache::Create(model.part(i), num_tokens));
    caches.push_back(std::move(cache));
  }
  std::vector<double> all;
  for (int64_t begin = 0, end = prompt; end <= num_tokens; begin = end++) {
    const ActivationScope scope(ctx.arena());
    const Tensor input(tokens.data() + begin, DType::kI32, {end - begin});
    const auto run = [&](const Context& /*ctx*/, int i, const Tensor& x) {
      return model.part(i).Decode(ctx, input, &caches[i], /*place=*/nullptr, x);
    };
    STRAKE_ASSIGN_OR_RETURN(Tensor logits, model.Forward(ctx, input.dim(0), run));
    STRAKE_ASSIGN_OR_RETURN(logits, model.Share(ctx, logits, {1, vocab}));
    EXPECT_EQ(logits.shape(), (Shape{1, vocab}));
    for (int64_t i = 0; i < logits.num_elements(); ++i) {
      all.push_back(GetElement(logits, i).real());
    }
  }
  return all;
}

struct Generated {
  std::vector<int32_t> tokens;                 // not in f64
  std::vector<std::vector<int32_t>> together;  // not in f64
  std::vector<double> logits;
  bool operator==(const Generated&) const = default;
};

// By rank.
std::vector<Generated> GenerateOnRanks(const LayoutCase& layout) {
  std::vector<Generated> results(NumRanks(layout.Sizes()));
  const absl::Status status = RunOnThreads(
      layout.Sizes(), {.timeout = std::chrono::minutes(1), .check = true},
      [&](const Mesh& mesh) -> absl::Status {
        STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, MakeEngine(layout, mesh));
        // A stage's own arena holds what stays for a pass alone.
        STRAKE_ASSIGN_OR_RETURN(ActivationArena arena, ActivationArena::Create(kArenaBytes));
        const Context ctx = engine->context().WithArena(&arena);
        const ModelParts model = engine->model_parts();
        Generated& mine = results[mesh.rank()];
        if (layout.dtype != DType::kF64) {
          STRAKE_ASSIGN_OR_RETURN(mine.tokens, Generate(ctx, model));
          STRAKE_ASSIGN_OR_RETURN(mine.together, GenerateTogether(ctx, model));
          EXPECT_EQ(mine.together[0], mine.tokens);
        }
        STRAKE_ASSIGN_OR_RETURN(mine.logits, DecodeLogits(ctx, model, {1, 45, 2, 44}));
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return results;
}

// In f64 the promised limit of a layout. In f32 the roundings of a chain of 27 sums (12 in each of
// two blocks, the embedding, the last norm and the head), of at most 48 terms each, independent of
// each other, of both runs, the largest about four times their root mean square.
double Tolerance(DType dtype) {
  return dtype == DType::kF64 ? 1e-12 : 4 * std::sqrt(2 * 27 * 48.0) * UnitRoundoff(dtype);
}

void ExpectSameGeneration(LayoutCase layout) {
  SCOPED_TRACE(layout.ToString());
  const Generated expected = GenerateOnRanks(layout.OnOneRank())[0];
  const std::vector<Generated> ranks = GenerateOnRanks(layout);
  EXPECT_EQ(expected.tokens.size(), layout.dtype == DType::kF32 ? kNumNewTokens : 0);
  for (const Generated& rank : ranks) {
    EXPECT_EQ(rank.tokens, expected.tokens);
    EXPECT_EQ(rank.together, expected.together);
    EXPECT_LE(RelativeError(rank.logits, expected.logits), Tolerance(layout.dtype));
    EXPECT_EQ(rank.logits, ranks[0].logits);
  }
}

TEST(LayoutGenerationTest, TheTokensAndLogitsOfOneRank) {
  for (const int tp : {2, 4}) {
    for (const bool sequence_parallel : {false, true}) {
      for (const DType dtype : {DType::kF64, DType::kF32}) {
        LayoutCase c = {.tp = tp, .sequence_parallel = sequence_parallel};
        c.dtype = dtype;
        ExpectSameGeneration(c);
        c.model = "llama";
        c.tied = false;
        for (const int num_kv_heads : {24, 2, 1}) {
          c.num_kv_heads = num_kv_heads;
          ExpectSameGeneration(c);
        }
        if (sequence_parallel) continue;
        for (const LayoutModel& model : LayoutModels()) {
          c.model = model.name;
          c.num_kv_heads = model.grouped_heads ? 2 : 24;
          ExpectSameGeneration(c);
        }
      }
    }
  }
}

// The stages' ranks get the bits of one stage with the same tensor-parallel ranks.
void ExpectTheBitsOfOneStage(const LayoutCase& layout) {
  SCOPED_TRACE(layout.ToString());
  LayoutCase one_stage = layout;
  one_stage.pp = one_stage.chunks = one_stage.dp = 1;
  one_stage.schedule = PipelineKind::k1f1b;
  const Generated expected = GenerateOnRanks(one_stage)[0];
  EXPECT_EQ(expected.tokens.size(), layout.dtype == DType::kF64 ? 0 : kNumNewTokens);
  ASSERT_FALSE(expected.logits.empty());
  EXPECT_NE(expected.logits.front(), expected.logits.back());
  for (const Generated& rank : GenerateOnRanks(layout)) EXPECT_TRUE(rank == expected);
}

TEST(StageGenerationTest, HasTheBitsOfOneStage) {
  for (const auto& [pp, chunks] : {std::pair{2, 1}, {2, 2}, {4, 1}, {4, 2}, {3, 3}}) {
    LayoutCase c = {.num_layers = 9,
                    .pp = pp,
                    .schedule = chunks > 1 ? PipelineKind::kInterleaved : PipelineKind::k1f1b,
                    .chunks = chunks,
                    .num_micro_batches = pp};
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF64}) {
      c.dtype = dtype;
      ExpectTheBitsOfOneStage(c);
    }
  }
}

TEST(StageGenerationTest, HasThemBesideOtherAxesAndFeatures) {
  LayoutCase c = {.num_layers = 4,
                  .pp = 2,
                  .schedule = PipelineKind::kInterleaved,
                  .chunks = 2,
                  .num_micro_batches = 2,
                  .dtype = DType::kF32};
  for (const auto& [tp, dp] : {std::pair{1, 2}, {2, 1}, {2, 2}}) {
    for (const bool sequence_parallel : {false, true}) {
      c.tp = tp;
      c.dp = dp;
      c.sequence_parallel = sequence_parallel;
      ExpectTheBitsOfOneStage(c);
    }
  }
  c = {.num_layers = 2, .pp = 2, .num_micro_batches = 2, .dtype = DType::kF32};
  for (const LayoutModel& model : LayoutModels()) {
    c.model = model.name;
    c.tied = !c.tied;
    c.num_kv_heads = model.grouped_heads ? 2 : 24;
    ExpectTheBitsOfOneStage(c);
  }
  c.model = "llama";
  c.lora_rank = 3;
  for (const bool tied : {false, true}) {
    c.tied = tied;
    ExpectTheBitsOfOneStage(c);
  }
}

// A prompt that context-parallel ranks share but for its end, which fills some of the cache; then
// one token, and as many as before.
constexpr int64_t kLongPrompt = 2 * 3 * 64 + 5, kLongText = 2 * kLongPrompt + 1;

// The logits after each of the three, on every rank.
std::vector<std::vector<float>> LongPromptLogits(const ModelConfig& config,
                                                 const MeshVector& sizes) {
  const TestTensor text(DType::kI32, {kLongText});
  FillTokens(text, /*seed=*/1, config.vocab_size);
  const absl::Span<const int32_t> tokens(text->data<int32_t>(), kLongText);
  std::vector<std::vector<float>> logits(NumRanks(sizes));
  const absl::Status status = RunOnThreads(
      sizes, {.timeout = std::chrono::minutes(1), .check = true},
      [&](const Mesh& mesh) -> absl::Status {
        STRAKE_ASSIGN_OR_RETURN(
            const std::unique_ptr<InferenceModel> model,
            InferenceModel::Create({.model = config, .seq_len = kLongText}, mesh));
        TestContext ctx(OpSet::kAuto, /*num_threads=*/1);
        SetWeights(ctx.context().team(), &model->parameters());
        STRAKE_ASSIGN_OR_RETURN(Decoder decoder, Decoder::Create(ctx, model->parts(), kLongText));
        for (const auto& [begin, count] : {std::pair<int64_t, int64_t>{0, kLongPrompt},
                                           {kLongPrompt, 1},
                                           {kLongPrompt + 1, kLongPrompt}}) {
          STRAKE_ASSIGN_OR_RETURN(const std::vector<float> after,
                                  decoder.Append(tokens.subspan(begin, count)));
          std::vector<float>& mine = logits[mesh.rank()];
          mine.insert(mine.end(), after.begin(), after.end());
        }
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return logits;
}

// As Tolerance(), of sums of up to kLongText terms.
TEST(ContextGenerationTest, ALongPromptHasTheLogitsOfOneRank) {
  const double tolerance = 4 * std::sqrt(2.0 * 27 * kLongText) * UnitRoundoff(DType::kF32);
  for (const char* name : {"gpt2", "llama", "gemma2"}) {
    ModelConfig config = LayoutCase{.model = name}.Model();
    config.max_positions = kLongText;
    const std::vector<float> truth = LongPromptLogits(config, {1, 1, 1, 1})[0];
    const std::vector<double> expected(truth.begin(), truth.end());
    ASSERT_EQ(expected.size(), 3 * config.vocab_size);
    for (const MeshVector& sizes :
         {MeshVector{1, 1, 3, 1}, MeshVector{1, 1, 2, 2}, MeshVector{1, 2, 2, 1}}) {
      SCOPED_TRACE(absl::StrCat(name, ", ", sizes.ToString()));
      const std::vector<std::vector<float>> ranks = LongPromptLogits(config, sizes);
      EXPECT_LE(RelativeError({ranks[0].begin(), ranks[0].end()}, expected), tolerance);
      for (const std::vector<float>& rank : ranks) EXPECT_EQ(rank, ranks[0]);
    }
  }
}

// A rank that gives up between two tokens, as for a file that cannot be written.
TEST(StageGenerationTest, AnErrorOfOneStageEndsAll) {
  const LayoutCase layout = {
      .num_layers = 4, .pp = 4, .num_micro_batches = 4, .dtype = DType::kF32};
  for (int failing = 0; failing < layout.pp; ++failing) {
    std::vector<absl::Status> ends(layout.pp);
    const absl::Status first = RunOnThreads(
        layout.Sizes(), {.timeout = std::chrono::minutes(1)},
        [&](const Mesh& mesh) -> absl::Status {
          STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, MakeEngine(layout, mesh));
          STRAKE_ASSIGN_OR_RETURN(ActivationArena arena, ActivationArena::Create(kArenaBytes));
          const Context ctx = engine->context().WithArena(&arena);
          int count = 0;
          const auto take = [&](int64_t /*token*/) {
            if (++count < 3 || mesh.rank() != failing) return absl::OkStatus();
            const auto lost = absl::UnavailableError("the third token is lost");
            mesh.communicator(MeshAxis::kPp).Abort(lost);
            return lost;
          };
          ends[mesh.rank()] = GenerateTokens(ctx, engine->model_parts(), kPrompt, kNumNewTokens,
                                             {.temperature = 0}, take);
          return ends[mesh.rank()];
        });
    EXPECT_THAT(std::string(first.message()), HasSubstr("the third token is lost"));
    for (int rank = 0; rank < layout.pp; ++rank) {
      const std::string message(ends[rank].message());
      EXPECT_THAT(message, HasSubstr("the third token is lost")) << rank;
      if (rank == failing) continue;
      EXPECT_THAT(message, HasSubstr(absl::StrCat("rank ", failing, " of axis pp"))) << rank;
    }
  }
}

}  // namespace
}  // namespace strake::testing
