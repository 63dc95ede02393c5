// Splitters on the King James Bible, in parts as a tokenizer cuts them: known patterns' functions,
// and PCRE2 with the same patterns. One thread.
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "core/base/utf8.h"
#include "data/tokenizer/words/pattern_splitter.h"
#include "data/tokenizer/words/pcre2_splitter.h"
#include "data/tokenizer/words/splitter.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr char kTextPath[] = "data/kjv.txt";  // of the runfiles, in which `bazel run` starts
constexpr size_t kPartBytes = size_t{1} << 16;

std::string ReadText() {
  std::ifstream file(kTextPath, std::ios::binary);
  CHECK(file) << "cannot read " << kTextPath << ": start this by bazel run";
  return {std::istreambuf_iterator<char>(file), {}};
}

const std::string& Text() {
  static const auto* const text = new std::string(ReadText());
  return *text;
}

std::vector<std::string> Parts(const std::string& text, const Splitter& splitter) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin < text.size();) {
    const absl::string_view part = absl::string_view(text).substr(begin, kPartBytes);
    const bool is_last = begin + part.size() == text.size();
    const size_t size = is_last ? part.size() : splitter.SafeCut(part);
    CHECK_GT(size, 0);
    parts.emplace_back(part.substr(0, size));
    begin += size;
  }
  return parts;
}

void RunSplit(benchmark::State& state, const Splitter& splitter,
              const std::vector<std::string>& parts) {
  std::vector<uint32_t> ends;
  int64_t num_words = 0, num_bytes = 0;
  for (auto _ : state) {
    for (const std::string& part : parts) {
      ends.clear();
      CHECK(splitter.Split(part, &ends).ok());
      num_words += ends.size();
      num_bytes += part.size();
    }
  }
  state.SetBytesProcessed(num_bytes);
  state.counters["bytes/word"] = static_cast<double>(num_bytes) / num_words;
}

// Argument: the index of the pattern in KnownPatterns(), which the label tells.
void BM_Known(benchmark::State& state) {
  const std::vector<std::string> patterns = KnownPatterns()[state.range(0)];
  const auto splitter = MakePatternSplitter(patterns);
  state.SetLabel(patterns.back());
  RunSplit(state, *splitter, Parts(Text(), *splitter));
}

void BM_Pcre2(benchmark::State& state) {
  const std::vector<std::string> patterns = KnownPatterns()[state.range(0)];
  const auto splitter = MakePcre2Splitter(patterns).value();
  RunSplit(state, *splitter, Parts(Text(), *MakePatternSplitter(patterns)));
}

// What every splitter does before.
void BM_ValidUtf8Prefix(benchmark::State& state) {
  int64_t num_bytes = 0;
  for (auto _ : state) num_bytes += ValidUtf8Prefix(Text());
  state.SetBytesProcessed(num_bytes);
}

const int kNumPatterns = KnownPatterns().size();
BENCHMARK(BM_Known)->DenseRange(0, kNumPatterns - 1);
BENCHMARK(BM_Pcre2)->DenseRange(0, kNumPatterns - 1);
BENCHMARK(BM_ValidUtf8Prefix);

}  // namespace
}  // namespace strake
