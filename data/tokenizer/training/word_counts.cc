#include "data/tokenizer/training/word_counts.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <mutex>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "data/tokenizer/words/known_patterns.h"

namespace strake {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 20;
constexpr size_t kMaxUncutBytes = size_t{64} << 20;

// Texts without a word that goes on elsewhere.
struct Chunk {
  std::string bytes;
  std::vector<size_t> ends;  // of each text, in `bytes`

  void EndText() {
    if (bytes.size() > TextBegin()) ends.push_back(bytes.size());
  }
  size_t TextBegin() const { return ends.empty() ? 0 : ends.back(); }
};

// Makes chunks of parts.
class ChunkReader {
 public:
  ChunkReader(const Splitter& splitter, NextTextPart next_part)
      : splitter_(splitter), next_part_(next_part) {}

  // False at the end, and after an error. Safe to call from many threads.
  absl::StatusOr<bool> Next(Chunk* chunk) {
    const std::lock_guard lock(mutex_);
    if (ended_) return false;
    const auto more = ReadChunk(chunk);
    ended_ = !more.ok() || !*more;
    return more;
  }
  // Next() will return false.
  void Stop() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }

 private:
  absl::StatusOr<bool> ReadChunk(Chunk* chunk) {
    chunk->ends.clear();
    chunk->bytes = std::exchange(rest_, {});
    size_t wanted_bytes = kChunkBytes;
    while (true) {
      TextPart part;
      STRAKE_ASSIGN_OR_RETURN(const bool more, next_part_(&part));
      if (!more) break;
      chunk->bytes.append(part.text.data(), part.text.size());
      if (part.ends_document) chunk->EndText();
      if (chunk->bytes.size() < wanted_bytes) continue;
      if (CutOff(chunk)) return true;
      wanted_bytes = 2 * chunk->bytes.size();
    }
    chunk->EndText();
    return !chunk->ends.empty();
  }

  // Keeps for the next chunk what follows the last cut. False where there is none.
  bool CutOff(Chunk* chunk) {
    const size_t begin = chunk->TextBegin();
    const absl::string_view text = absl::string_view(chunk->bytes).substr(begin);
    size_t cut = splitter_.SafeCut(text);
    if (cut == 0 && text.size() >= kMaxUncutBytes) cut = text.size();
    if (begin + cut == 0) return false;
    rest_ = chunk->bytes.substr(begin + cut);
    chunk->bytes.resize(begin + cut);
    chunk->EndText();
    return true;
  }

  const Splitter& splitter_;
  const NextTextPart next_part_;
  std::mutex mutex_;
  std::string rest_;
  bool ended_ = false;
};

// The words of one thread, in shards so that threads can unite them.
class WordTable {
 public:
  static constexpr int kNumShards = 64;
  using Shard = absl::flat_hash_map<std::string, int64_t>;

  void Add(absl::string_view word) { ++shards_[ShardOf(word)][word]; }
  Shard TakeShard(int shard) { return std::exchange(shards_[shard], {}); }

 private:
  static int ShardOf(absl::string_view word) {
    uint64_t first = word.size();
    std::memcpy(&first, word.data(), std::min(sizeof(first), word.size()));
    return static_cast<int>((first * 0x9E3779B97F4A7C15ull) >> 58);
  }

  std::array<Shard, kNumShards> shards_;
};

absl::Status AddWords(const Splitter& splitter, const Chunk& chunk, WordTable* table) {
  std::vector<uint32_t> ends;
  size_t begin = 0;
  for (const size_t end : chunk.ends) {
    const absl::string_view text = absl::string_view(chunk.bytes).substr(begin, end - begin);
    ends.clear();
    STRAKE_RETURN_IF_ERROR(splitter.Split(text, &ends));
    size_t word = 0;
    for (const uint32_t word_end : ends) {
      table->Add(text.substr(word, word_end - word));
      word = word_end;
    }
    begin = end;
  }
  return absl::OkStatus();
}

absl::Status CountChunks(const Splitter& splitter, ChunkReader* reader, WordTable* table) {
  Chunk chunk;
  while (true) {
    STRAKE_ASSIGN_OR_RETURN(const bool more, reader->Next(&chunk));
    if (!more) return absl::OkStatus();
    STRAKE_RETURN_IF_ERROR(AddWords(splitter, chunk, table));
  }
}

// One shard of all tables.
std::vector<WordCount> Unite(std::vector<WordTable>* tables, int shard) {
  WordTable::Shard united;
  for (WordTable& table : *tables) {
    WordTable::Shard words = table.TakeShard(shard);
    if (united.empty()) {
      united = std::move(words);
      continue;
    }
    for (const auto& [word, count] : words) united[word] += count;
  }
  std::vector<WordCount> counts;
  counts.reserve(united.size());
  for (const auto& [word, count] : united) counts.push_back({word, count});
  return counts;
}

}  // namespace

const char* const kByteLevelPattern = kGpt2Words;

absl::StatusOr<std::vector<WordCount>> CountWords(const Splitter& splitter, int num_threads,
                                                  NextTextPart next_part) {
  ThreadTeam team(num_threads);
  ChunkReader reader(splitter, next_part);
  std::vector<WordTable> tables(num_threads);
  absl::Status status;
  std::mutex status_mutex;
  team.ParallelForTasks(num_threads, [&](int thread, int64_t) {
    const absl::Status own = CountChunks(splitter, &reader, &tables[thread]);
    if (own.ok()) return;
    reader.Stop();
    const std::lock_guard lock(status_mutex);
    status.Update(own);
  });
  STRAKE_RETURN_IF_ERROR(status);

  std::vector<std::vector<WordCount>> shards(WordTable::kNumShards);
  team.ParallelForTasks(WordTable::kNumShards,
                        [&](int, int64_t shard) { shards[shard] = Unite(&tables, shard); });
  std::vector<WordCount> counts;
  for (std::vector<WordCount>& shard : shards) {
    std::move(shard.begin(), shard.end(), std::back_inserter(counts));
    shard = {};
  }
  return counts;
}

}  // namespace strake
