// Text to token files, end to end, and how long reading the documents alone takes. Files of 16 MB
// of text, page cache warm; a vocabulary trained on the text, so that words have few tokens.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "benchmark/benchmark.h"
#include "core/base/philox.h"
#include "data/text/compress.h"
#include "data/text/document_reader.h"
#include "data/text/prepare.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/training/bpe_trainer.h"
#include "glog/logging.h"

namespace strake {
namespace {

namespace fs = std::filesystem;

constexpr size_t kTextBytes = 16 << 20;
constexpr int64_t kNumWords = 20000;
constexpr char kPattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Word number i of a language of our own. Words are about as long as English ones.
std::string Word(uint64_t i) {
  constexpr absl::string_view kSyllables[] = {"ba", "ther", "lo", "in", "sha", "me", "ron", "e"};
  std::string word;
  for (i += 7; i > 0; i /= 8) word += std::string(kSyllables[i % 8]);
  return word;
}

// The index of a word: frequent ones are low, about as Zipf found.
uint64_t WordIndex(const Philox& random, uint64_t i) {
  const double u = random.Uniform(i);
  return static_cast<uint64_t>(static_cast<double>(kNumWords) * u * u * u * u * u);
}

// Sentences, a line each.
const std::vector<std::string>& Sentences() {
  static const auto* sentences = [] {
    auto* all = new std::vector<std::string>(1);
    const Philox random(1, RandomUse::kTesting);
    size_t size = 0;
    for (uint64_t i = 0; size < kTextBytes; ++i) {
      const std::string word = Word(WordIndex(random, i));
      const bool ends = i % 23 == 22;
      all->back() += (all->back().empty() ? ""
                      : i % 9 == 0        ? ", "
                                          : " ") +
                     word + (ends ? "." : "");
      size += word.size() + 1;
      if (ends) all->emplace_back();
    }
    all->pop_back();
    return all;
  }();
  return *sentences;
}

const Tokenizer& TrainedTokenizer() {
  static const auto* tokenizer = [] {
    std::vector<WordCount> words;
    for (uint64_t i = 0; i < kNumWords; ++i) {
      words.push_back({" " + Word(i), static_cast<int64_t>(kNumWords / (i + 1) + 1)});
    }
    auto spec = TrainBpe(words, {.vocab_size = 8000});
    CHECK(spec.ok()) << spec.status();
    PreTokenizer split;
    split.pattern = kPattern;
    spec->pre_tokenizers = {split};
    auto made = Tokenizer::Create(*std::move(spec));
    CHECK(made.ok()) << made.status();
    return made->release();
  }();
  return *tokenizer;
}

std::string TextOf(bool json_lines) {
  std::string text;
  for (const std::string& sentence : Sentences()) {
    text += json_lines ? "{\"id\": 17, \"text\": \"" + sentence + "\\n\"}\n" : sentence + "\n";
  }
  return text;
}

// "a.txt", "a.jsonl.gz" and so on, in a folder that is removed at the end.
struct Files {
  Files() : folder(fs::temp_directory_path() / "strake_prepare_benchmark") {
    fs::create_directories(folder);
    for (const bool json_lines : {false, true}) {
      const std::string text = TextOf(json_lines);
      const std::string name = json_lines ? "a.jsonl" : "a.txt";
      Write(name, text);
      Write(name + ".gz", testing::Gzip(text));
      Write(name + ".zst", testing::Zstd(text));
    }
  }
  ~Files() { fs::remove_all(folder); }
  void Write(const std::string& name, const std::string& content) const {
    std::ofstream(folder / name, std::ios::binary) << content;
  }
  const fs::path folder;
};

std::string PathOf(const std::string& name) {
  static const Files files;
  return files.folder / name;
}

void BM_Read(benchmark::State& state, const std::string& name) {
  const std::string path = PathOf(name);
  int64_t bytes = 0;
  for (auto _ : state) {
    const auto reader = DocumentReader::Open(path, {});
    CHECK(reader.ok()) << reader.status();
    DocumentPart part;
    while ((*reader)->Next(&part).value()) bytes += part.text.size();
  }
  state.SetBytesProcessed(bytes);
}

void BM_Prepare(benchmark::State& state, const std::string& name) {
  PrepareOptions options;
  options.files = {PathOf(name)};
  options.directory = PathOf("out");
  options.threads = static_cast<int>(state.range(0));
  int64_t bytes = 0;
  for (auto _ : state) {
    const auto result = PrepareTokens(TrainedTokenizer(), options);
    CHECK(result.ok()) << result.status();
    bytes += result->num_text_bytes;
    fs::remove_all(options.directory);
  }
  state.SetBytesProcessed(bytes);
}

// The processor's time of all threads, whose ratios hold on a busy machine too. The argument of
// BM_Prepare is its number of threads.
#define STRAKE_PREPARE_BENCHMARKS(id, name) \
  BENCHMARK_CAPTURE(BM_Read, id, name)      \
      ->MeasureProcessCPUTime()             \
      ->UseRealTime()                       \
      ->Unit(benchmark::kMillisecond);      \
  BENCHMARK_CAPTURE(BM_Prepare, id, name)   \
      ->Arg(1)                              \
      ->Arg(2)                              \
      ->MeasureProcessCPUTime()             \
      ->UseRealTime()                       \
      ->Unit(benchmark::kMillisecond)

STRAKE_PREPARE_BENCHMARKS(text, "a.txt");
STRAKE_PREPARE_BENCHMARKS(text_gzip, "a.txt.gz");
STRAKE_PREPARE_BENCHMARKS(text_zstd, "a.txt.zst");
STRAKE_PREPARE_BENCHMARKS(json_lines, "a.jsonl");
STRAKE_PREPARE_BENCHMARKS(json_lines_gzip, "a.jsonl.gz");
STRAKE_PREPARE_BENCHMARKS(json_lines_zstd, "a.jsonl.zst");

}  // namespace
}  // namespace strake
