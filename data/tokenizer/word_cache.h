// WordCache: the tokens of words met before, which is what makes encoding fast. One per thread. Its
// size is bounded: new words take the place of old ones.
#ifndef STRAKE_DATA_TOKENIZER_WORD_CACHE_H_
#define STRAKE_DATA_TOKENIZER_WORD_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "data/tokenizer/merge_scratch.h"

namespace strake {

// A word of 1 to 15 bytes as two integers, its length in the last byte.
struct ShortWord {
  static constexpr size_t kMaxBytes = 15;
  uint64_t low, high;

  // `readable` bytes may be read from `word` on. Reads 16 at once where that is allowed.
  static ShortWord Of(const char* word, size_t size, size_t readable);
};

class WordCache {
 public:
  static constexpr size_t kMaxLongBytes = 255;

  // 2^log2_entries short words, and as many bytes of longer ones as 32 times that.
  explicit WordCache(int log2_entries = 16);
  WordCache(WordCache&&) = default;
  WordCache& operator=(WordCache&&) = default;

  // Forgets everything if the words in it are another tokenizer's.
  void BeginUse(uint64_t owner);

  // A short word's tokens: at most 3, or none where the model drops all of it.
  struct Entry {
    ShortWord word;
    int32_t tokens[3];
    uint32_t count;
  };
  const Entry* Find(ShortWord word) const {
    const Entry* entry = &entries_[Index(word)];
    if (entry->word.low == word.low && entry->word.high == word.high) return entry;
    ++entry;
    if (entry->word.low == word.low && entry->word.high == word.high) return entry;
    return nullptr;
  }
  // Takes at most 3 tokens.
  void Insert(ShortWord word, absl::Span<const int32_t> tokens);

  // Any word of at most kMaxLongBytes. Valid until the next insertion. Where the word is not here,
  // data() is null; it may also be here with no tokens.
  absl::Span<const int32_t> FindLong(absl::string_view word) const;
  void InsertLong(absl::string_view word, absl::Span<const int32_t> tokens);

  // Memory of encoding that is kept from one text to the next.
  MergeScratch merge_scratch = {};
  std::vector<uint32_t> word_ends = {};

 private:
  // Where a longer word's tokens lie in `long_data_`: first the tokens, then the bytes.
  struct LongEntry {
    uint32_t hash, begin;
    uint16_t num_bytes, num_tokens;
  };
  struct Free {
    void operator()(Entry* entries) const;
  };

  // The first of a pair of entries, which share a line of the processor's cache.
  size_t Index(ShortWord word) const {
    const uint64_t hash = (word.low ^ (word.high * 0x9E3779B97F4A7C15u)) * 0xD6E8FEB86659FD93u;
    return (hash >> shift_) << 1;
  }
  size_t LongSlot(absl::string_view word, uint32_t hash) const;
  absl::string_view LongWord(const LongEntry& entry) const;
  void ClearLong();

  int log2_entries_;
  int shift_;
  uint64_t owner_ = 0;
  std::unique_ptr<Entry[], Free> entries_;
  std::vector<LongEntry> long_entries_;
  std::vector<int32_t> long_data_;
  size_t num_long_ = 0;
};

namespace word_cache_internal {

inline constexpr uint64_t kAll = ~uint64_t{0};
// The bytes of a word of this many bytes, in either half.
inline constexpr uint64_t kLowMask[16] = {
    0,    kAll >> 56, kAll >> 48, kAll >> 40, kAll >> 32, kAll >> 24, kAll >> 16, kAll >> 8,
    kAll, kAll,       kAll,       kAll,       kAll,       kAll,       kAll,       kAll};
inline constexpr uint64_t kHighMask[16] = {
    0, 0,          0,          0,          0,          0,          0,          0,
    0, kAll >> 56, kAll >> 48, kAll >> 40, kAll >> 32, kAll >> 24, kAll >> 16, kAll >> 8};

}  // namespace word_cache_internal

inline ShortWord ShortWord::Of(const char* word, size_t size, size_t readable) {
  uint64_t halves[2] = {0, 0};
  if (readable >= sizeof(halves)) {
    std::memcpy(halves, word, sizeof(halves));
  } else {
    std::memcpy(halves, word, size);
  }
  return {halves[0] & word_cache_internal::kLowMask[size],
          (halves[1] & word_cache_internal::kHighMask[size]) | (uint64_t{size} << 56)};
}

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_WORD_CACHE_H_
