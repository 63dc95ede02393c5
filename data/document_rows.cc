#include "data/document_rows.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "data/permutation.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr uint64_t kHashPrime = 0x100000001b3ull;

uint64_t HashOf(const std::vector<int64_t>& begins, const std::vector<TokenRange>& targets) {
  uint64_t hash = StableHash("documents");
  const auto add = [&](int64_t value) {
    hash = (hash ^ static_cast<uint64_t>(value)) * kHashPrime;
    hash ^= hash >> 32;
  };
  for (const int64_t begin : begins) add(begin);
  for (const TokenRange& range : targets) {
    add(range.begin);
    add(range.end);
  }
  return hash;
}

// For each item of `sizes`, which descend from `capacity` to 1, the number of its bin: best fit.
// Counts the bins.
std::vector<int32_t> BestFit(const std::vector<int32_t>& sizes, int64_t capacity,
                             int32_t* num_bins) {
  std::vector<int32_t> bins;
  bins.reserve(sizes.size());
  std::map<int64_t, std::vector<int32_t>> by_room;
  *num_bins = 0;
  for (const int32_t size : sizes) {
    auto best = by_room.lower_bound(size);
    int64_t room = capacity;
    if (best == by_room.end()) {
      bins.push_back((*num_bins)++);
    } else {
      room = best->first;
      bins.push_back(best->second.back());
      best->second.pop_back();
      if (best->second.empty()) by_room.erase(best);
    }
    if (room > size) by_room[room - size].push_back(bins.back());
  }
  return bins;
}

}  // namespace

absl::StatusOr<DocumentRows> DocumentRows::Create(int64_t num_tokens, std::vector<int64_t> begins,
                                                  std::optional<std::vector<TokenRange>> targets,
                                                  const Options& options) {
  const bool concat = options.mode == DocumentMode::kConcat;
  CHECK(options.seq_len >= 1 && (!concat || !targets.has_value()))
      << "[document_rows] sequence length " << options.seq_len << ", "
      << (targets ? "targets" : "no targets");
  DocumentRows rows(options);
  if (!concat) {
    const auto ascend = std::adjacent_find(begins.begin(), begins.end(), std::greater_equal<>());
    CHECK(!begins.empty() && begins[0] == 0 && begins.back() < num_tokens && ascend == begins.end())
        << "[document_rows] " << begins.size() << " documents of " << num_tokens << " tokens";
    rows.begins_ = std::move(begins);
    rows.begins_.push_back(num_tokens);
    rows.has_targets_ = targets.has_value();
    if (targets.has_value()) rows.targets_ = *std::move(targets);
    rows.hash_ = HashOf(rows.begins_, rows.targets_);
  }
  if (rows.is_windows()) {
    rows.num_rows_ = (num_tokens - 1) / options.seq_len;
  } else if (rows.has_targets_) {
    STRAKE_RETURN_IF_ERROR(rows.TakeConversations());
  } else {
    rows.CutText();
  }
  if (rows.num_rows_ > 0 && rows.HasTarget()) return rows;
  return absl::InvalidArgumentError(
      absl::StrCat(num_tokens, " tokens hold no row with a token to learn"));
}

// Whether any row has one. Rows of windows of documents may have none: the last token of each.
bool DocumentRows::HasTarget() const {
  if (!is_windows()) return true;
  const int64_t num_targets = num_rows_ * options_.seq_len;
  const auto end = std::upper_bound(begins_.begin(), begins_.end(), num_targets);
  return end - std::upper_bound(begins_.begin(), end, 0) < num_targets;
}

void DocumentRows::CutText() {
  row_begins_.push_back(0);
  for (size_t i = 0; i + 1 < begins_.size(); ++i) {
    const int64_t num_targets = std::max<int64_t>(0, begins_[i + 1] - begins_[i] - 1);
    num_rows_ += (num_targets + options_.seq_len - 1) / options_.seq_len;
    row_begins_.push_back(num_rows_);
  }
}

absl::Status DocumentRows::TakeConversations() {
  const int64_t seq_len = options_.seq_len;
  for (size_t i = 0; i + 1 < begins_.size(); ++i) {
    const int64_t begin = begins_[i], length = begins_[i + 1] - begin;
    if (length > seq_len && !options_.truncate) {
      return absl::InvalidArgumentError(absl::StrCat(
          "a document has ", length, " tokens, more than the ", seq_len, " of a sequence"));
    }
    const int64_t num_tokens = std::min(length, seq_len);
    const int64_t num_targets = NumTargetsIn(begin + 1, begin + num_tokens);
    num_dropped_ += num_targets == 0;
    if (num_targets == 0) continue;
    documents_.push_back(
        {begin, static_cast<int32_t>(num_tokens), static_cast<int32_t>(num_targets)});
  }
  begins_ = {};
  num_rows_ = documents_.size();
  if (options_.mode == DocumentMode::kMask) PackConversations();
  return absl::OkStatus();
}

// Rows are in the order of the first of their documents.
void DocumentRows::PackConversations() {
  CHECK(documents_.size() <= std::numeric_limits<int32_t>::max())
      << "[document_rows] " << documents_.size() << " documents";
  std::stable_sort(documents_.begin(), documents_.end(), [](const Document& a, const Document& b) {
    return a.num_tokens > b.num_tokens;
  });
  std::vector<int32_t> lengths;
  length_begins_.assign(options_.seq_len + 1, 0);
  for (const Document& document : documents_) {
    lengths.push_back(document.num_tokens);
    // Longer ones come first.
    ++length_begins_[document.num_tokens - 1];
  }
  std::partial_sum(length_begins_.rbegin(), length_begins_.rend(), length_begins_.rbegin());
  int32_t num_bins = 0;
  const std::vector<int32_t> bins = BestFit(lengths, options_.seq_len, &num_bins);
  std::vector<int64_t> first(num_bins, std::numeric_limits<int64_t>::max());
  for (size_t i = 0; i < bins.size(); ++i) {
    first[bins[i]] = std::min(first[bins[i]], documents_[i].begin);
  }
  slots_.resize(bins.size());
  std::iota(slots_.begin(), slots_.end(), 0);
  std::stable_sort(slots_.begin(), slots_.end(),
                   [&](int32_t a, int32_t b) { return first[bins[a]] < first[bins[b]]; });
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (i == 0 || bins[slots_[i]] != bins[slots_[i - 1]]) slot_begins_.push_back(i);
  }
  num_rows_ = slot_begins_.size();
  slot_begins_.push_back(slots_.size());
}

size_t DocumentRows::FirstTargetRange(int64_t begin) const {
  return std::partition_point(targets_.begin(), targets_.end(),
                              [&](const TokenRange& range) { return range.end <= begin; }) -
         targets_.begin();
}

int64_t DocumentRows::NumTargetsIn(int64_t begin, int64_t end) const {
  int64_t sum = 0;
  VisitTargets(begin, end, [&](int64_t from, int64_t to) { sum += to - from; });
  return sum;
}

// The document in a place, among those of its length.
const DocumentRows::Document& DocumentRows::DocumentAt(int64_t slot, int64_t epoch) const {
  if (!options_.shuffle) return documents_[slot];
  const int64_t length = documents_[slot].num_tokens;
  const int64_t begin = length_begins_[length], end = length_begins_[length - 1];
  if (end - begin == 1) return documents_[slot];
  // Other permutations than those of rows, of each length its own.
  const uint64_t key = StableHash("documents of a length") + (uint64_t(epoch) << 32) + length;
  return documents_[begin + Permutation(end - begin, options_.seed, key)(slot - begin)];
}

void DocumentRows::WindowRow(int64_t begin, std::vector<Piece>* pieces) const {
  const int64_t end = begin + options_.seq_len;
  auto next = std::upper_bound(begins_.begin(), begins_.end(), begin);
  while (begin < end) {
    // Without documents the sequence is one.
    const int64_t document_end = next == begins_.end() ? end + 1 : *next++;
    const int64_t piece_end = std::min(document_end, end);
    pieces->push_back({begin, piece_end - begin, document_end > end});
    begin = piece_end;
  }
}

DocumentRows::Piece DocumentRows::CutRow(int64_t row) const {
  const size_t document =
      std::upper_bound(row_begins_.begin(), row_begins_.end(), row) - row_begins_.begin() - 1;
  const int64_t seq_len = options_.seq_len;
  const int64_t begin = begins_[document] + (row - row_begins_[document]) * seq_len;
  const int64_t left = begins_[document + 1] - begin;
  return {begin, std::min(left, seq_len), left > seq_len};
}

void DocumentRows::Row(int64_t row, int64_t epoch, std::vector<Piece>* pieces) const {
  pieces->clear();
  if (is_windows()) {
    WindowRow(row * options_.seq_len, pieces);
  } else if (!has_targets_) {
    pieces->push_back(CutRow(row));
  } else if (options_.mode == DocumentMode::kPad) {
    pieces->push_back({documents_[row].begin, documents_[row].num_tokens, false});
  } else {
    for (int64_t i = slot_begins_[row]; i < slot_begins_[row + 1]; ++i) {
      const Document& document = DocumentAt(slots_[i], epoch);
      pieces->push_back({document.begin, document.num_tokens, false});
    }
  }
}

int64_t DocumentRows::NumTargets(int64_t row, int64_t epoch) const {
  if (is_windows()) {
    // The last token of a document has none.
    const int64_t begin = row * options_.seq_len + 1;
    const auto first = std::lower_bound(begins_.begin(), begins_.end(), begin);
    const auto last = std::lower_bound(first, begins_.end(), begin + options_.seq_len);
    return options_.seq_len - (last - first);
  }
  if (!has_targets_) {
    const Piece piece = CutRow(row);
    return piece.num_tokens - !piece.goes_on;
  }
  if (options_.mode == DocumentMode::kPad) return documents_[row].num_targets;
  int64_t sum = 0;
  for (int64_t i = slot_begins_[row]; i < slot_begins_[row + 1]; ++i) {
    sum += DocumentAt(slots_[i], epoch).num_targets;
  }
  return sum;
}

}  // namespace strake
