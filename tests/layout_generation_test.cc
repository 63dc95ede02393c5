// Generation on tensor-parallel ranks: the same tokens and logits as on one rank.
#include <chrono>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/status_macros.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "models/generator.h"
#include "parallel/mesh/run_on_threads.h"
#include "tests/full_tensors.h"
#include "tests/layout_case.h"
#include "tests/layout_model.h"
#include "tests/train_layout.h"

namespace strake::testing {
namespace {

const std::vector<int32_t> kPrompt = {5, 46, 0, 17};
constexpr int64_t kNumNewTokens = 9;  // fills the model's positions

// Greedy, in f32.
absl::StatusOr<std::vector<int32_t>> Generate(Engine* engine) {
  std::vector<int32_t> tokens;
  STRAKE_RETURN_IF_ERROR(GenerateTokens(engine->context(), engine->model(), kPrompt, kNumNewTokens,
                                        {.temperature = 0}, [&](int64_t token) {
                                          tokens.push_back(static_cast<int32_t>(token));
                                          return absl::OkStatus();
                                        }));
  return tokens;
}

// The same for prompts of several lengths at a time.
absl::StatusOr<std::vector<std::vector<int32_t>>> GenerateTogether(Engine* engine) {
  const std::vector<std::vector<int32_t>> prompts = {kPrompt, {3}, {40, 40, 2}};
  std::vector<std::vector<int32_t>> texts(prompts.size());
  STRAKE_RETURN_IF_ERROR(GenerateAll(engine->context(), engine->model(), prompts,
                                     {.max_tokens = kNumNewTokens, .sampling = {.temperature = 0}},
                                     [&](const GeneratedToken& token) {
                                       texts[token.prompt].push_back(token.token);
                                       return absl::OkStatus();
                                     }));
  return texts;
}

// The logits after the prompt at once, and then after each of `next`.
absl::StatusOr<std::vector<double>> DecodeLogits(Engine* engine, std::vector<int32_t> next) {
  const Transformer& model = engine->model();
  const int64_t prompt = kPrompt.size(), num_tokens = prompt + next.size();
  std::vector<int32_t> tokens = kPrompt;
  tokens.insert(tokens.end(), next.begin(), next.end());
  STRAKE_ASSIGN_OR_RETURN(KvCache cache, KvCache::Create(model, num_tokens));
  std::vector<double> all;
  for (int64_t begin = 0, end = prompt; end <= num_tokens; begin = end++) {
    const ActivationScope scope(engine->context().arena());
    const Tensor input(tokens.data() + begin, DType::kI32, {end - begin});
    STRAKE_ASSIGN_OR_RETURN(const Tensor logits, model.Decode(engine->context(), input, &cache));
    EXPECT_EQ(logits.shape(), (Shape{1, model.config().vocab_size}));
    for (int64_t i = 0; i < logits.num_elements(); ++i) {
      all.push_back(GetElement(logits, i).real());
    }
  }
  return all;
}

struct Generated {
  std::vector<int32_t> tokens;                 // f32 alone
  std::vector<std::vector<int32_t>> together;  // f32 alone
  std::vector<double> logits;
};

// By rank.
std::vector<Generated> GenerateOnRanks(const LayoutCase& layout) {
  std::vector<Generated> results(NumRanks(layout.Sizes()));
  const absl::Status status = RunOnThreads(
      layout.Sizes(), {.timeout = std::chrono::minutes(1), .check = true},
      [&](const Mesh& mesh) -> absl::Status {
        STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, MakeEngine(layout, mesh));
        Generated& mine = results[mesh.rank()];
        if (layout.dtype == DType::kF32) {
          STRAKE_ASSIGN_OR_RETURN(mine.tokens, Generate(engine.get()));
          STRAKE_ASSIGN_OR_RETURN(mine.together, GenerateTogether(engine.get()));
          EXPECT_EQ(mine.together[0], mine.tokens);
        }
        STRAKE_ASSIGN_OR_RETURN(mine.logits, DecodeLogits(engine.get(), {1, 45, 2, 44}));
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

}  // namespace
}  // namespace strake::testing
