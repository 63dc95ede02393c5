#include <filesystem>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/tensor/tensor_buffer.h"
#include "data/data_loader.h"
#include "data/token_file.h"
#include "data/token_stream.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr int64_t kNumTokens = int64_t{1} << 24;

TokenStream MakeStream() {
  const std::string path =
      (std::filesystem::temp_directory_path() / "strake_data_loader_benchmark.bin").string();
  std::vector<int32_t> tokens(kNumTokens);
  for (int64_t i = 0; i < kNumTokens; ++i) tokens[i] = i % 50257;
  CHECK(WriteTokenFile(path, tokens, TokenEncoding::kUint16).ok()) << path;
  auto stream = TokenStream::Open({path}, 50257);
  CHECK(stream.ok()) << stream.status();
  std::filesystem::remove(path);  // the mapping remains
  return std::move(stream).value();
}

// Shuffled samples of uint16 tokens, page cache warm. Arguments: samples per call, sequence length.
void BM_Load(benchmark::State& state) {
  static const TokenStream* stream = new TokenStream(MakeStream());
  const int64_t count = state.range(0), seq_len = state.range(1);
  const auto loader = DataLoader::Create(stream, 0, stream->num_tokens(), {.seq_len = seq_len});
  CHECK(loader.ok()) << loader.status();
  const TensorBuffer tokens(DType::kI32, {count * seq_len}),
      targets(DType::kI32, {count * seq_len});
  int64_t sample = 0;
  for (auto _ : state) {
    CHECK(loader->Load(sample, count, tokens, targets).ok());
    sample += count;
  }
  state.counters["tokens/s"] =
      benchmark::Counter(state.iterations() * count * seq_len, benchmark::Counter::kIsRate);
}
BENCHMARK(BM_Load)->ArgsProduct({{16}, {64, 1024, 8192}});

// What a run does with its data when it starts, page cache warm. Argument: threads.
void BM_AllTokens(benchmark::State& state) {
  static const TokenStream* stream = new TokenStream(MakeStream());
  ThreadTeam team(static_cast<int>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(stream->AllTokens(team));
  state.counters["tokens/s"] =
      benchmark::Counter(state.iterations() * kNumTokens, benchmark::Counter::kIsRate);
}
BENCHMARK(BM_AllTokens)->Arg(1)->Arg(2)->UseRealTime();

}  // namespace
}  // namespace strake
