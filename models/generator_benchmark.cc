// Generates text one token after another, on the CPU's cores. Each token reads every weight once,
// and memory bandwidth is the limit: `of_roofline` is the rate divided by that of a loop that only
// reads, measured before and after.
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
  ActivationArena plan = ActivationArena::DryRun();
  auto arena = ActivationArena::Create(
      GenerationBytes(Context(&team, &plan), model, kPromptTokens, kNewTokens));
  CHECK(arena.ok()) << arena.status();
  const Context ctx(&team, &*arena);
  const std::vector<int32_t> prompt(kPromptTokens, 1);

  double limit = ReadBytesPerSecond(team);
  for (auto _ : state) {
    // Starts at the first token, which includes the prompt.
    std::vector<Clock::time_point> times;
    const absl::Status status =
        GenerateTokens(ctx, model, prompt, kNewTokens, {.temperature = 0.8}, [&](int64_t) {
          times.push_back(Clock::now());
          return absl::OkStatus();
        });
    CHECK(status.ok()) << status;
    state.SetIterationTime(std::chrono::duration<double>(times.back() - times.front()).count());
  }
  limit = std::max(limit, ReadBytesPerSecond(team));

  const double num_tokens = 1.0 * state.iterations() * (kNewTokens - 1);
  const double bytes = num_tokens * WeightBytes(config, parameters);
  const auto rate = benchmark::Counter::kIsRate;
  state.counters["tokens/s"] = benchmark::Counter(num_tokens, rate);
  state.counters["bytes/s"] = benchmark::Counter(bytes, rate);
  state.counters["of_roofline"] = benchmark::Counter(bytes / limit, rate);
}
BENCHMARK_CAPTURE(BM_Generate, gpt2_124m_fp32, "gpt2-124m", DType::kF32)->UseManualTime();
BENCHMARK_CAPTURE(BM_Generate, gpt2_124m_bf16, "gpt2-124m", DType::kBf16)->UseManualTime();

}  // namespace
}  // namespace strake
