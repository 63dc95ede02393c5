// BytePairModel: a word to its tokens, by merging pairs of adjacent ones.
//
// Of all pairs of a word that a merge names, the one of the lowest rank becomes one token, the
// leftmost of equal ones, until there is none. A word of n symbols takes O(n log n) steps.
#ifndef STRAKE_DATA_TOKENIZER_BYTE_PAIR_MODEL_H_
#define STRAKE_DATA_TOKENIZER_BYTE_PAIR_MODEL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "data/tokenizer/merge_scratch.h"
#include "data/tokenizer/tokenizer_spec.h"

namespace strake {

// Pairs of tokens to what they become: open addressing, so that most look-ups read one line of the
// processor's cache.
class MergeTable {
 public:
  static constexpr uint32_t kNone = ~uint32_t{0};
  struct Pair {
    uint64_t key;
    uint32_t rank;  // kNone: this place is free
    int32_t result;
  };

  MergeTable() : MergeTable(0) {}
  explicit MergeTable(size_t num_pairs);

  // The pair's merge, or one whose rank is kNone.
  const Pair& Find(int32_t left, int32_t right) const {
    const uint64_t key = Key(left, right);
    size_t slot = Slot(key);
    while (pairs_[slot].key != key && pairs_[slot].rank != kNone) slot = (slot + 1) & mask_;
    return pairs_[slot];
  }
  void Set(int32_t left, int32_t right, uint32_t rank, int32_t result);

 private:
  static uint64_t Key(int32_t left, int32_t right) {
    return (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
  }
  size_t Slot(uint64_t key) const { return ((key ^ (key >> 29)) * 0x9E3779B97F4A7C15u) >> shift_; }

  std::vector<Pair> pairs_;
  size_t mask_;
  int shift_;
};

// Merges symbols in place; at most kMaxScannedSymbols of them by scanning, more with a heap.
inline constexpr size_t kMaxScannedSymbols = 48;
void MergeByScanning(const MergeTable& merges, std::vector<int32_t>* symbols);
void MergeByHeap(const MergeTable& merges, MergeScratch* scratch);

class BytePairModel {
 public:
  // `spec` must outlive it.
  static absl::StatusOr<BytePairModel> Create(const TokenizerSpec& spec);

  // Appends the tokens of a word, as a whole or cut at blank marks where that changes nothing.
  void Encode(absl::string_view word, MergeScratch* scratch, std::vector<int32_t>* tokens) const;
  // Never cuts: what the above is compared with.
  void EncodeUncut(absl::string_view word, MergeScratch* scratch,
                   std::vector<int32_t>* tokens) const;

  // Whether words may be cut before each run of blank marks ("▁", U+2581).
  //
  // This is so where "▁" is a token and no token that merging makes has a "▁" after another
  // character. Then no merge ever joins what stands on the two sides of such a place: its result
  // would have them side by side. Which merges are done on one side depends on that side alone, as
  // the order of two merges that share no symbol does not matter. Unknown characters do not reach
  // across, since "▁" is none.
  bool cuts_at_blank_marks() const { return cuts_at_blank_marks_; }
  // The end of the part of `text` that begins at `begin`.
  size_t PartEnd(absl::string_view text, size_t begin) const;

  // The token that is this text and stands in words.
  std::optional<int32_t> Find(absl::string_view text) const;

 private:
  void AddTokens(const TokenizerSpec& spec);
  absl::Status AddMerges(const TokenizerSpec& spec);
  void ChooseCuts(const TokenizerSpec& spec);
  void Symbols(absl::string_view word, std::vector<int32_t>* symbols) const;
  void AddUnknown(absl::string_view bytes, bool follows_unknown,
                  std::vector<int32_t>* symbols) const;

  MergeTable merges_;
  absl::flat_hash_map<absl::string_view, int32_t> tokens_;
  std::array<int32_t, 256> byte_tokens_;  // -1: none
  bool byte_level_ = true, whole_words_ = false, has_fallback_ = false, fuse_unknown_ = false;
  int32_t unknown_ = -1;
  bool cuts_at_blank_marks_ = false;
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_BYTE_PAIR_MODEL_H_
