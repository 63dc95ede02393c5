// Encoding with a vocabulary and words at random: what the cache of words knows, what it does not,
// and one long word. tests/tokenizer_speed.py compares real vocabularies with other libraries.
#include <cmath>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "data/tokenizer/random_spec.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/words/known_patterns.h"
#include "data/tokenizer/words/splitter.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr size_t kTextBytes = size_t{1} << 22;

std::unique_ptr<const Tokenizer> MakeTokenizer(Random* random) {
  TokenizerSpec spec = RandomByteLevelSpec(" abcdefghijklmnopqrstuvwxyz", 30000, random);
  spec.pre_tokenizers = {{.kind = PreTokenizer::Kind::kSplit, .pattern = kGpt2Words}};
  auto tokenizer = Tokenizer::Create(std::move(spec));
  CHECK(tokenizer.ok()) << tokenizer.status();
  return std::move(tokenizer).value();
}

std::string RandomWord(Random* random) {
  std::string word = " ";
  for (size_t size = 1 + Below(8, random); size > 0; --size) {
    word += static_cast<char>('a' + Below(26, random));
  }
  return word;
}

// Words of which the n-th is n times rarer than the first, as in a language.
std::string ZipfText(size_t num_words, Random* random) {
  std::vector<std::string> words;
  for (size_t i = 0; i < num_words; ++i) words.push_back(RandomWord(random));
  std::string text;
  while (text.size() < kTextBytes) {
    const double share = static_cast<double>((*random)() >> 11) / (uint64_t{1} << 53);
    text += words[static_cast<size_t>(std::pow(num_words, share)) % num_words];
  }
  return text;
}

void Run(const std::string& text, const Tokenizer& tokenizer, benchmark::State* state) {
  std::vector<int32_t> tokens;
  WordCache cache;
  for (auto _ : *state) {
    tokens.clear();
    tokenizer.Encode(text, &cache, &tokens);
    benchmark::DoNotOptimize(tokens.data());
  }
  state->SetBytesProcessed(static_cast<int64_t>(state->iterations() * text.size()));
  state->counters["tokens"] = static_cast<double>(tokens.size());
}

// Argument: the number of different words.
void BM_Words(benchmark::State& state) {
  Random random(1);
  const auto tokenizer = MakeTokenizer(&random);
  Run(ZipfText(state.range(0), &random), *tokenizer, &state);
}
BENCHMARK(BM_Words)->Arg(1000)->Arg(30000)->Arg(1000000)->Unit(benchmark::kMillisecond);

void BM_OneLetter(benchmark::State& state) {
  Random random(1);
  const auto tokenizer = MakeTokenizer(&random);
  Run(std::string(kTextBytes, 'a'), *tokenizer, &state);
}
BENCHMARK(BM_OneLetter)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace strake
