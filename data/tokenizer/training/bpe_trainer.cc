#include "data/tokenizer/training/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <queue>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/formats/byte_letters.h"

namespace strake {
namespace {

constexpr int64_t kNumBytes = 256;

// The vocabulary before the first merge.
TokenizerSpec SpecialTokensAndBytes(const BpeTrainerOptions& options) {
  TokenizerSpec spec;
  for (const std::string& token : options.special_tokens) {
    spec.added.push_back(
        {.id = static_cast<int32_t>(spec.tokens.size()), .text = token, .special = true});
    spec.tokens.push_back(token);
  }
  for (const unsigned char byte : BytesByLetter()) {
    spec.tokens.emplace_back(1, static_cast<char>(byte));
  }
  spec.decoders = {{.kind = DecodingStep::Kind::kByteLevel}};
  return spec;
}

// All words, a cell per byte, and a cell before each word and after the last. A place is the number
// of a token's first cell.
class WordCells {
 public:
  static constexpr int32_t kInside = -1;   // a cell of a token that is not its first
  static constexpr int32_t kBetween = -2;  // a cell between words
  static constexpr uint32_t kNowhere = ~0u;

  absl::Status Fill(absl::Span<const WordCount> words,
                    const std::array<int32_t, 256>& byte_tokens) {
    size_t num_cells = words.size() + 1;
    for (const WordCount& word : words) num_cells += word.word.size();
    if (num_cells >= kNowhere) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the ", words.size(), " different words have ", num_cells,
                       " bytes, more than 32 bits can number; train the vocabulary on less text"));
    }
    cells_.reserve(num_cells);
    for (size_t i = 0; i < words.size(); ++i) {
      counts_.push_back(words[i].count);
      cells_.push_back({kBetween, static_cast<uint32_t>(i)});
      if (words[i].word.size() > kFarBytes) long_words_.push_back(cells_.size());
      for (const char byte : words[i].word) {
        cells_.push_back({byte_tokens[static_cast<unsigned char>(byte)], 1});
      }
    }
    cells_.push_back({kBetween, 0});
    return absl::OkStatus();
  }

  uint32_t size() const { return static_cast<uint32_t>(cells_.size()); }
  int32_t token(uint32_t place) const { return cells_[place].token; }

  // The place after a token; kBetween may be there.
  uint32_t Next(uint32_t place) const { return place + cells_[place].length; }
  // The token before a place, or kNowhere at the beginning of a word.
  uint32_t Previous(uint32_t place) const {
    const Cell& last = cells_[place - 1];
    return last.token == kBetween ? kNowhere : place - last.length;
  }

  // How often the word at this place occurs.
  int64_t CountAt(uint32_t place) const {
    const uint32_t far = place > kFarBytes ? place - kFarBytes : 0;
    uint32_t begin = place;
    while (cells_[begin - 1].token != kBetween) {
      if (begin < far) {
        begin = *std::prev(std::upper_bound(long_words_.begin(), long_words_.end(), place));
        break;
      }
      begin -= cells_[begin - 1].length;
    }
    return counts_[cells_[begin - 1].length];
  }

  // Makes the token at `place` and the one after it one.
  void Join(uint32_t place, int32_t token) {
    const uint32_t second = Next(place);
    const uint32_t end = Next(second);
    cells_[second].token = kInside;
    cells_[place] = {token, end - place};
    cells_[end - 1].length = end - place;
  }

 private:
  // Walking back further costs more than a binary search.
  static constexpr uint32_t kFarBytes = 64;

  struct Cell {
    int32_t token;
    // Of the token, in its first and in its last cell. Between words: the number of the next one.
    uint32_t length;
  };

  std::vector<Cell> cells_;
  std::vector<int64_t> counts_;       // by word
  std::vector<uint32_t> long_words_;  // places of the words of more than kFarBytes
};

class Trainer {
 public:
  Trainer(const BpeTrainerOptions& options, TokenizerSpec spec)
      : options_(options), spec_(std::move(spec)) {
    special_.insert(options.special_tokens.begin(), options.special_tokens.end());
  }

  absl::StatusOr<TokenizerSpec> Train(absl::Span<const WordCount> words) {
    STRAKE_RETURN_IF_ERROR(cells_.Fill(words, ByteTokens()));
    CountPairs();
    while (int64_t(spec_.tokens.size()) < options_.vocab_size) {
      if (options_.stop_requested && options_.stop_requested()) {
        return absl::CancelledError("training of the vocabulary was stopped");
      }
      const int pair = PopBest();
      if (pair < 0) break;
      MergePair(pair);
      if (options_.on_progress) options_.on_progress(spec_.tokens.size());
    }
    return std::move(spec_);
  }

 private:
  struct Pair {
    int32_t left, right;
    int64_t count = 0;
    int64_t last_increase = -1;         // the number of the merge
    std::vector<uint32_t> places = {};  // all where it stands, and some where it no longer does

    uint64_t key() const { return uint64_t{static_cast<uint32_t>(left)} << 32 | uint32_t(right); }
  };
  // A pair with the count that it had. One that has become too high is corrected when it comes to
  // the top.
  struct Candidate {
    int64_t count;
    uint64_t key;
    int pair;
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : key > other.key;
    }
  };

  std::array<int32_t, 256> ByteTokens() const {
    std::array<int32_t, 256> tokens;
    int32_t id = spec_.added.size();
    for (const unsigned char byte : BytesByLetter()) tokens[byte] = id++;
    return tokens;
  }

  int PairOf(int32_t left, int32_t right) {
    const Pair pair = {.left = left, .right = right};
    const auto [entry, is_new] = pair_numbers_.try_emplace(pair.key(), pairs_.size());
    if (is_new) pairs_.push_back(pair);
    return entry->second;
  }

  void CountPairs() {
    int64_t count = 0;
    for (uint32_t place = 0; place + 1 < cells_.size(); ++place) {
      const int32_t left = cells_.token(place), right = cells_.token(place + 1);
      if (left == WordCells::kBetween) count = cells_.CountAt(place + 1);
      if (left >= 0 && right >= 0) Add(place, left, right, count);
    }
    PushIncreased();
  }

  void Add(uint32_t place, int32_t left, int32_t right, int64_t count) {
    const int number = PairOf(left, right);
    Pair& pair = pairs_[number];
    pair.count += count;
    pair.places.push_back(place);
    if (pair.last_increase == num_merges()) return;
    pair.last_increase = num_merges();
    increased_.push_back(number);
  }

  void Remove(int32_t left, int32_t right, int64_t count) {
    pairs_[PairOf(left, right)].count -= count;
  }

  void PushIncreased() {
    for (const int number : increased_) {
      const Pair& pair = pairs_[number];
      if (IsMerged(pair)) candidates_.push({pair.count, pair.key(), number});
    }
    increased_.clear();
  }

  bool IsMerged(const Pair& pair) const {
    return pair.count >= std::max<int64_t>(options_.min_frequency, 1) &&
           (special_.empty() || !special_.contains(TextOf(pair)));
  }
  std::string TextOf(const Pair& pair) const {
    return spec_.tokens[pair.left] + spec_.tokens[pair.right];
  }

  // The most frequent pair, or -1 where none may be merged.
  int PopBest() {
    while (!candidates_.empty()) {
      const Candidate top = candidates_.top();
      candidates_.pop();
      const Pair& pair = pairs_[top.pair];
      if (pair.count == top.count) return top.pair;
      if (IsMerged(pair)) candidates_.push({pair.count, top.key, top.pair});
    }
    return -1;
  }

  // No other pair makes the same text: how a text between two cuts is merged depends on it alone.
  void MergePair(int number) {
    const int32_t left = pairs_[number].left, right = pairs_[number].right;
    const int32_t joined = static_cast<int32_t>(spec_.tokens.size());
    spec_.tokens.push_back(TextOf(pairs_[number]));
    spec_.merges.push_back({left, right, joined, num_merges()});
    const std::vector<uint32_t> places = std::exchange(pairs_[number].places, {});
    // Places ascend, so of two that overlap the left one is merged.
    for (const uint32_t place : places) {
      if (cells_.token(place) != left || cells_.token(cells_.Next(place)) != right) continue;
      MergeAt(place, left, right, joined);
    }
    pairs_[number].count = 0;
    PushIncreased();
  }

  void MergeAt(uint32_t place, int32_t left, int32_t right, int32_t joined) {
    const int64_t count = cells_.CountAt(place);
    cells_.Join(place, joined);
    const uint32_t before = cells_.Previous(place);
    const uint32_t after = cells_.Next(place);
    if (before != WordCells::kNowhere) {
      Remove(cells_.token(before), left, count);
      Add(before, cells_.token(before), joined, count);
    }
    if (cells_.token(after) != WordCells::kBetween) {
      Remove(right, cells_.token(after), count);
      Add(place, joined, cells_.token(after), count);
    }
  }

  int64_t num_merges() const { return spec_.merges.size(); }

  const BpeTrainerOptions& options_;
  TokenizerSpec spec_;
  absl::flat_hash_set<std::string> special_;
  WordCells cells_;
  absl::flat_hash_map<uint64_t, int> pair_numbers_;
  std::vector<Pair> pairs_;
  std::priority_queue<Candidate> candidates_;
  std::vector<int> increased_;  // since the last merge
};

}  // namespace

absl::Status CheckBpeTrainerOptions(const BpeTrainerOptions& options) {
  const auto& special = options.special_tokens;
  if (options.vocab_size < kNumBytes + int64_t(special.size())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a vocabulary of ", options.vocab_size, " tokens cannot hold the 256 bytes and ",
        special.size(), " special tokens; make it larger"));
  }
  if (options.vocab_size > kMaxVocabSize) {
    return absl::InvalidArgumentError(absl::StrCat("a vocabulary of ", options.vocab_size,
                                                   " tokens is too large; at most ", kMaxVocabSize,
                                                   " are allowed"));
  }
  absl::flat_hash_set<std::string> seen;
  for (const std::string& token : special) {
    const char* reason = token.empty()                ? "is empty"
                         : token.size() == 1          ? "is a byte, which has a token of its own"
                         : !seen.insert(token).second ? "is there twice"
                                                      : nullptr;
    if (reason) {
      return absl::InvalidArgumentError(absl::StrCat("special token \"", token, "\" ", reason));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenizerSpec> TrainBpe(absl::Span<const WordCount> words,
                                       const BpeTrainerOptions& options) {
  STRAKE_RETURN_IF_ERROR(CheckBpeTrainerOptions(options));
  return Trainer(options, SpecialTokensAndBytes(options)).Train(words);
}

}  // namespace strake
