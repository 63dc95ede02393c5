#include "data/tokenizer/byte_pair_model.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"

namespace strake {
namespace {

constexpr char kBlankMark[] = "\xE2\x96\x81";
constexpr size_t kBlankMarkBytes = 3;

bool HasBlankMarkAt(absl::string_view text, size_t at) {
  return text.substr(at, kBlankMarkBytes) == kBlankMark;
}

// Whether a blank mark stands anywhere after a character that is none.
bool HasInnerBlankMark(absl::string_view text) {
  size_t at = 0;
  while (HasBlankMarkAt(text, at)) at += kBlankMarkBytes;
  return text.find(kBlankMark, at) != absl::string_view::npos;
}

// Ranks as integers of 32 bits in the same order.
std::vector<uint32_t> DenseRanks(const std::vector<Merge>& merges) {
  std::vector<int64_t> sorted;
  for (const Merge& merge : merges) sorted.push_back(merge.rank);
  const auto is_small = [](int64_t rank) { return rank >= 0 && rank < int64_t{1} << 31; };
  if (std::all_of(sorted.begin(), sorted.end(), is_small)) {
    return {sorted.begin(), sorted.end()};
  }
  std::sort(sorted.begin(), sorted.end());
  std::vector<uint32_t> ranks;
  for (const Merge& merge : merges) {
    ranks.push_back(std::lower_bound(sorted.begin(), sorted.end(), merge.rank) - sorted.begin());
  }
  return ranks;
}

std::vector<bool> AddedIds(const TokenizerSpec& spec) {
  std::vector<bool> is_added(spec.tokens.size());
  for (const AddedToken& token : spec.added) {
    if (token.id >= 0 && token.id < is_added.size()) is_added[token.id] = true;
  }
  return is_added;
}

}  // namespace

MergeTable::MergeTable(size_t num_pairs) {
  const size_t size = std::bit_ceil(2 * num_pairs + 2);
  pairs_.assign(size, {0, kNone, -1});
  mask_ = size - 1;
  shift_ = 64 - std::countr_zero(size);
}

void MergeTable::Set(int32_t left, int32_t right, uint32_t rank, int32_t result) {
  const_cast<Pair&>(Find(left, right)) = {Key(left, right), rank, result};
}

void MergeByScanning(const MergeTable& merges, std::vector<int32_t>* symbols) {
  size_t size = symbols->size();
  if (size < 2) return;
  int32_t* symbol = symbols->data();
  uint32_t rank[kMaxScannedSymbols];
  for (size_t i = 0; i + 1 < size; ++i) rank[i] = merges.Find(symbol[i], symbol[i + 1]).rank;
  while (size > 1) {
    const size_t at = std::min_element(rank, rank + size - 1) - rank;
    if (rank[at] == MergeTable::kNone) break;
    symbol[at] = merges.Find(symbol[at], symbol[at + 1]).result;
    std::copy(symbol + at + 2, symbol + size, symbol + at + 1);
    if (at + 2 < size) std::copy(rank + at + 1, rank + size - 1, rank + at);
    --size;
    if (at > 0) rank[at - 1] = merges.Find(symbol[at - 1], symbol[at]).rank;
    if (at + 1 < size) rank[at] = merges.Find(symbol[at], symbol[at + 1]).rank;
  }
  symbols->resize(size);
}

namespace {

// A list of symbols, linked, and a heap of the ranks of its pairs. An entry of the heap counts only
// while the pair at its place still has that rank; so nothing needs to be found in the heap.
class HeapMerger {
 public:
  HeapMerger(const MergeTable& merges, MergeScratch* scratch)
      : merges_(merges), s_(*scratch), size_(static_cast<int32_t>(scratch->symbols.size())) {}

  void Run() {
    Link();
    while (!s_.heap.empty()) {
      const uint64_t top = Pop();
      const int32_t at = static_cast<int32_t>(top & ~uint32_t{0});
      if (s_.ranks[at] == top >> 32) MergeAt(at);
    }
    Compact();
  }

 private:
  uint32_t RankAt(int32_t at) const {
    const int32_t next = s_.next[at];
    return next == size_ ? MergeTable::kNone : merges_.Find(s_.symbols[at], s_.symbols[next]).rank;
  }
  static uint64_t Entry(uint32_t rank, int32_t at) {
    return (uint64_t{rank} << 32) | static_cast<uint32_t>(at);
  }

  void Link() {
    s_.next.resize(size_);
    s_.previous.resize(size_);
    s_.ranks.resize(size_);
    s_.heap.clear();
    for (int32_t i = 0; i < size_; ++i) {
      s_.next[i] = i + 1;
      s_.previous[i] = i - 1;
    }
    for (int32_t i = 0; i < size_; ++i) {
      s_.ranks[i] = RankAt(i);
      if (s_.ranks[i] != MergeTable::kNone) s_.heap.push_back(Entry(s_.ranks[i], i));
    }
    s_.num_heap_operations += s_.heap.size();
    std::make_heap(s_.heap.begin(), s_.heap.end(), std::greater<>());
  }

  uint64_t Pop() {
    ++s_.num_heap_operations;
    std::pop_heap(s_.heap.begin(), s_.heap.end(), std::greater<>());
    const uint64_t top = s_.heap.back();
    s_.heap.pop_back();
    return top;
  }

  void Update(int32_t at) {
    s_.ranks[at] = RankAt(at);
    if (s_.ranks[at] == MergeTable::kNone) return;
    ++s_.num_heap_operations;
    s_.heap.push_back(Entry(s_.ranks[at], at));
    std::push_heap(s_.heap.begin(), s_.heap.end(), std::greater<>());
  }

  void MergeAt(int32_t at) {
    const int32_t gone = s_.next[at];
    s_.symbols[at] = merges_.Find(s_.symbols[at], s_.symbols[gone]).result;
    s_.ranks[gone] = MergeTable::kNone;
    s_.next[at] = s_.next[gone];
    if (s_.next[at] != size_) s_.previous[s_.next[at]] = at;
    Update(at);
    if (s_.previous[at] >= 0) Update(s_.previous[at]);
  }

  void Compact() {
    int32_t count = 0;
    for (int32_t at = 0; at != size_; at = s_.next[at]) s_.symbols[count++] = s_.symbols[at];
    s_.symbols.resize(count);
  }

  const MergeTable& merges_;
  MergeScratch& s_;
  const int32_t size_;
};

}  // namespace

void MergeByHeap(const MergeTable& merges, MergeScratch* scratch) {
  if (!scratch->symbols.empty()) HeapMerger(merges, scratch).Run();
}

absl::StatusOr<BytePairModel> BytePairModel::Create(const TokenizerSpec& spec) {
  BytePairModel model;
  model.byte_level_ = spec.byte_level;
  model.whole_words_ = spec.whole_words;
  model.fuse_unknown_ = spec.fuse_unknown;
  if (spec.unknown.has_value()) model.unknown_ = *spec.unknown;
  model.AddTokens(spec);
  STRAKE_RETURN_IF_ERROR(model.AddMerges(spec));
  model.ChooseCuts(spec);
  return model;
}

void BytePairModel::AddTokens(const TokenizerSpec& spec) {
  const std::vector<bool> is_added = AddedIds(spec);
  std::vector<bool> is_result(spec.tokens.size()), is_byte(spec.tokens.size());
  for (const Merge& merge : spec.merges) {
    if (merge.result >= 0 && merge.result < is_result.size()) is_result[merge.result] = true;
  }
  for (const int32_t token : spec.byte_tokens) is_byte[token] = true;
  // An added token's text does not arise in a word, unless merges make it or it is a character.
  const auto stands_in_words = [&](int32_t id, int round) {
    const std::string& text = spec.tokens[id];
    if (text.empty() || is_byte[id]) return false;
    if (round == 0) return !is_added[id];
    return is_added[id] && (is_result[id] || CharBytes(text) == text.size());
  };
  tokens_.reserve(spec.tokens.size());
  for (const int round : {0, 1}) {
    for (int32_t id = 0; id < spec.tokens.size(); ++id) {
      if (stands_in_words(id, round)) tokens_.emplace(spec.tokens[id], id);
    }
  }
  has_fallback_ = !spec.byte_tokens.empty();
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    byte_tokens_[byte] =
        has_fallback_ ? spec.byte_tokens[byte] : Find(absl::string_view(&text, 1)).value_or(-1);
  }
}

absl::Status BytePairModel::AddMerges(const TokenizerSpec& spec) {
  const auto exists = [&](int32_t id) {
    return id >= 0 && id < spec.tokens.size() && !spec.tokens[id].empty();
  };
  const std::vector<uint32_t> ranks = DenseRanks(spec.merges);
  merges_ = MergeTable(spec.merges.size());
  for (size_t i = 0; i < spec.merges.size(); ++i) {
    const Merge& merge = spec.merges[i];
    if (!exists(merge.left) || !exists(merge.right) || !exists(merge.result)) {
      return absl::InvalidArgumentError(
          absl::StrCat("merge ", i, " makes token ", merge.result, " of ", merge.left, " and ",
                       merge.right, ", which are not all tokens; there are ", spec.tokens.size()));
    }
    merges_.Set(merge.left, merge.right, ranks[i], merge.result);
  }
  return absl::OkStatus();
}

void BytePairModel::ChooseCuts(const TokenizerSpec& spec) {
  cuts_at_blank_marks_ =
      !byte_level_ && !whole_words_ && Find(kBlankMark).has_value() &&
      std::none_of(spec.merges.begin(), spec.merges.end(), [&](const Merge& merge) {
        return HasInnerBlankMark(spec.tokens[merge.result]);
      });
}

std::optional<int32_t> BytePairModel::Find(absl::string_view text) const {
  const auto found = tokens_.find(text);
  if (found == tokens_.end()) return std::nullopt;
  return found->second;
}

size_t BytePairModel::PartEnd(absl::string_view text, size_t begin) const {
  if (!cuts_at_blank_marks_) return text.size();
  while (HasBlankMarkAt(text, begin)) begin += kBlankMarkBytes;
  return std::min(text.find(kBlankMark, begin), text.size());
}

void BytePairModel::AddUnknown(absl::string_view bytes, bool follows_unknown,
                               std::vector<int32_t>* symbols) const {
  if (has_fallback_) {
    for (const char byte : bytes) symbols->push_back(byte_tokens_[static_cast<uint8_t>(byte)]);
  } else if (unknown_ >= 0 && !(fuse_unknown_ && follows_unknown)) {
    symbols->push_back(unknown_);
  }
}

void BytePairModel::Symbols(absl::string_view word, std::vector<int32_t>* symbols) const {
  symbols->clear();
  bool follows_unknown = false;
  for (size_t i = 0, size; i < word.size(); i += size) {
    int32_t token;
    if (byte_level_) {
      size = 1;
      token = byte_tokens_[static_cast<uint8_t>(word[i])];
    } else {
      size = CharBytes(word.substr(i));
      token = Find(word.substr(i, size)).value_or(-1);
    }
    const bool is_known = token >= 0;
    if (is_known) symbols->push_back(token);
    if (!is_known) AddUnknown(word.substr(i, size), follows_unknown, symbols);
    follows_unknown = !is_known;
  }
}

void BytePairModel::EncodeUncut(absl::string_view word, MergeScratch* scratch,
                                std::vector<int32_t>* tokens) const {
  if (whole_words_) {
    if (const auto token = Find(word); token.has_value()) {
      tokens->push_back(*token);
      return;
    }
  }
  Symbols(word, &scratch->symbols);
  if (scratch->symbols.size() <= kMaxScannedSymbols) {
    MergeByScanning(merges_, &scratch->symbols);
  } else {
    MergeByHeap(merges_, scratch);
  }
  tokens->insert(tokens->end(), scratch->symbols.begin(), scratch->symbols.end());
}

void BytePairModel::Encode(absl::string_view word, MergeScratch* scratch,
                           std::vector<int32_t>* tokens) const {
  for (size_t begin = 0, end; begin < word.size(); begin = end) {
    end = PartEnd(word, begin);
    EncodeUncut(word.substr(begin, end - begin), scratch, tokens);
  }
}

}  // namespace strake
