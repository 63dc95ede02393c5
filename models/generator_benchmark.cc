// Generates texts one token after another, on the CPU's cores. Each step reads every weight once
// for all of them, and memory bandwidth is the limit: `of_roofline` is the rate divided by that of
// a loop that only reads, measured before and after. The argument is the number of texts.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/device/memory_stream.h"
#include "core/memory/activation_arena.h"
#include "core/memory/parameter_arena.h"
#include "glog/logging.h"
#include "models/families/families.h"
#include "models/generator.h"
#include "models/initialize.h"

namespace strake {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPromptTokens = 16, kNewTokens = 64;

// The bytes that a token reads: one row of an embedding table, but all of a tied one, which is also
// the head.
double WeightBytes(const ModelConfig& config, const ParameterArena& parameters) {
  const int64_t rows = (config.learned_positions ? config.max_positions : 0) +
                       (config.tie_word_embeddings ? 0 : config.vocab_size);
  const int64_t elements = parameters.num_elements() - rows * config.hidden_size;
  return 1.0 * elements * DTypeSize(parameters.values().dtype());
}

double ReadBytesPerSecond(ThreadTeam& team) {
  MemoryStream stream(&team, size_t{512} << 20);
  double best = 0;
  for (int pass = 0; pass < 8; ++pass) best = std::max(best, stream.MeasureReadPass());
  return best;
}

void BM_Generate(benchmark::State& state, const char* preset, DType dtype) {
  const ModelConfig config = *ModelPreset(preset);
  ThreadTeam team(NumUsableCores());
  ParameterArena parameters;
  const Transformer model(config, kPromptTokens + kNewTokens, &parameters);
  CHECK(parameters.Allocate(dtype, /*with_gradients=*/false).ok());
  CHECK(InitializeParameters(1, team, &parameters).ok());
  const int64_t num_texts = state.range(0);
  const std::vector<std::vector<int32_t>> prompts(num_texts,
                                                  std::vector<int32_t>(kPromptTokens, 1));
  const GenerationOptions options = {.max_tokens = kNewTokens, .sampling = {.temperature = 0.8}};
  ActivationArena plan = ActivationArena::DryRun();
  auto arena = ActivationArena::Create(GenerationBytes(
      Context(&team, &plan), model, std::vector<int64_t>(num_texts, kPromptTokens), options));
  CHECK(arena.ok()) << arena.status();
  const Context ctx(&team, &*arena);

  double limit = ReadBytesPerSecond(team);
  for (auto _ : state) {
    // Starts at the last text's first token, which includes the prompts.
    std::vector<Clock::time_point> times;
    const absl::Status status =
        GenerateAll(ctx, model, prompts, options, [&](const GeneratedToken&) {
          times.push_back(Clock::now());
          return absl::OkStatus();
        });
    CHECK(status.ok()) << status;
    state.SetIterationTime(
        std::chrono::duration<double>(times.back() - times[num_texts - 1]).count());
  }
  limit = std::max(limit, ReadBytesPerSecond(team));

  const double num_steps = 1.0 * state.iterations() * (kNewTokens - 1);
  const double bytes = num_steps * WeightBytes(config, parameters);
  const auto rate = benchmark::Counter::kIsRate;
  state.counters["tokens/s"] = benchmark::Counter(num_steps * num_texts, rate);
  state.counters["bytes/s"] = benchmark::Counter(bytes, rate);
  state.counters["of_roofline"] = benchmark::Counter(bytes / limit, rate);
}
void NumTexts(benchmark::internal::Benchmark* benchmark) {
  benchmark->UseManualTime()->ArgName("texts")->RangeMultiplier(2)->Range(1, kMaxGenerationBatch);
}
BENCHMARK_CAPTURE(BM_Generate, gpt2_124m_fp32, "gpt2-124m", DType::kF32)->Apply(NumTexts);
BENCHMARK_CAPTURE(BM_Generate, gpt2_124m_bf16, "gpt2-124m", DType::kBf16)->Apply(NumTexts);

}  // namespace
}  // namespace strake
