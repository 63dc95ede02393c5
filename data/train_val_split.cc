#include "data/train_val_split.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "data/permutation.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr int64_t kHeldBackShare = 10;  // one token of so many
// Documents are tried until all but this share of what is to be held back is.
constexpr int64_t kCloseEnough = 64;

constexpr char kNameOfTheEnd[] = "the last 10 % of the training data, held back for validation,";

// A text of several documents, or texts of one each: what is held back is drawn from each by
// itself.
struct Group {
  std::vector<TokenRange> sources, documents;
  bool whole = false;  // no document is cut
};

TokenRange LastTenth(const TokenRange& range) {
  return {range.end - range.num_tokens() / kHeldBackShare, range.end};
}

// A text, and its documents.
struct Source {
  TokenRange range;
  std::vector<TokenRange> documents;
  bool whole = false;
};

// Adds the file's sources; the first may go on with the last of the file before.
void AddSources(const FileDocuments& file, int64_t file_begin, std::vector<Source>* sources) {
  std::vector<int64_t> bounds = {0, file.num_tokens};
  bounds.insert(bounds.end(), file.begins.begin(), file.begins.end());
  bounds.insert(bounds.end(), file.sources.begin(), file.sources.end());
  std::sort(bounds.begin(), bounds.end());
  CHECK(bounds[0] == 0 && bounds.back() == file.num_tokens)
      << "[train_val_split] documents from token " << bounds[0] << " to " << bounds.back() << " of "
      << file.num_tokens;
  for (size_t i = 0; i + 1 < bounds.size(); ++i) {
    const int64_t begin = bounds[i];
    const TokenRange document = {file_begin + begin, file_begin + bounds[i + 1]};
    if (document.num_tokens() == 0) continue;
    const bool is_new = std::binary_search(file.sources.begin(), file.sources.end(), begin) ||
                        sources->empty() || sources->back().range.end != document.begin;
    if (is_new) sources->push_back({{document.begin, document.begin}, {}});
    sources->back().range.end = document.end;
    sources->back().documents.push_back(document);
    sources->back().whole |= file.whole;
  }
}

// Short texts of one document would otherwise fill what long texts leave.
std::vector<Group> GroupsOf(const std::vector<Source>& sources) {
  std::vector<Group> groups(1);  // the first of texts of one document
  for (const Source& source : sources) {
    if (source.documents.size() > 1) groups.emplace_back();
    Group& group = source.documents.size() > 1 ? groups.back() : groups.front();
    group.whole |= source.whole;
    group.sources.push_back(source.range);
    group.documents.insert(group.documents.end(), source.documents.begin(), source.documents.end());
  }
  return groups;
}

int64_t Sum(const std::vector<TokenRange>& ranges) {
  int64_t sum = 0;
  for (const TokenRange& range : ranges) sum += range.num_tokens();
  return sum;
}

// Documents of no more than a tenth of the group.
std::vector<TokenRange> DrawDocuments(const Group& group, uint64_t seed, int64_t index) {
  std::vector<TokenRange> drawn;
  const int64_t num_documents = group.documents.size();
  if (num_documents == 0) return drawn;
  // Another permutation than those of epochs.
  const Permutation order(num_documents, seed, StableHash("documents held back") + index);
  const int64_t target = Sum(group.documents) / kHeldBackShare;
  int64_t left = target;
  for (int64_t i = 0; i < num_documents && left > target / kCloseEnough; ++i) {
    const TokenRange& document = group.documents[order(i)];
    if (document.num_tokens() > left) continue;
    drawn.push_back(document);
    left -= document.num_tokens();
  }
  return drawn;
}

std::vector<TokenRange> LastTenths(std::vector<TokenRange> sources) {
  std::transform(sources.begin(), sources.end(), sources.begin(), LastTenth);
  return sources;
}

// Whole documents, or where they are too long the last tenth of each source.
std::vector<TokenRange> HoldBack(const Group& group, uint64_t seed, int64_t index) {
  std::vector<TokenRange> drawn = DrawDocuments(group, seed, index);
  if (group.whole && drawn.empty() && group.documents.size() > 1) {
    drawn.push_back(*std::min_element(
        group.documents.begin(), group.documents.end(),
        [](const TokenRange& a, const TokenRange& b) { return a.num_tokens() < b.num_tokens(); }));
  }
  const int64_t num_drawn = Sum(drawn);
  if (group.whole || num_drawn >= Sum(group.documents) / kHeldBackShare / 2) return drawn;
  std::vector<TokenRange> tenths = LastTenths(group.sources);
  // Many short texts have no tenths.
  return Sum(tenths) > num_drawn ? tenths : drawn;
}

// What a sorted list of ranges leaves of [0, end).
TokenRanges Complement(const TokenRanges& ranges, int64_t end) {
  std::vector<TokenRange> rest;
  int64_t begin = 0;
  for (const TokenRange& range : ranges.ranges()) {
    rest.push_back({begin, range.begin});
    begin = range.end;
  }
  rest.push_back({begin, end});
  return TokenRanges(rest);
}

absl::Status CheckParts(const TrainValSplit& split, absl::string_view val_name, int64_t seq_len) {
  STRAKE_RETURN_IF_ERROR(CheckHoldsSample("the training data", split.train.num_tokens(), seq_len));
  return CheckHoldsSample(val_name, split.val.num_tokens(), seq_len);
}

}  // namespace

absl::Status CheckHoldsSample(absl::string_view what, int64_t num_tokens, int64_t seq_len) {
  if (num_tokens > seq_len) return absl::OkStatus();
  if (seq_len == 0) {
    return absl::InvalidArgumentError(absl::StrCat(what, " has no tokens; use more data"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(what, " has ", num_tokens, " tokens, but one sample takes ",
                   static_cast<uint64_t>(seq_len) + 1, " (sequence length ", seq_len,
                   " and the last target); use more data or a shorter sequence length"));
}

absl::StatusOr<TrainValSplit> SplitTrainVal(int64_t num_train_tokens,
                                            std::optional<int64_t> num_val_tokens,
                                            int64_t seq_len) {
  const int64_t held_back = num_val_tokens ? 0 : num_train_tokens / kHeldBackShare;
  const int64_t train_end = num_train_tokens - held_back;
  TrainValSplit split = {TokenRanges({{0, train_end}}),
                         TokenRanges({{train_end, num_train_tokens}})};
  if (num_val_tokens) split.val = TokenRanges({{0, *num_val_tokens}});
  STRAKE_RETURN_IF_ERROR(
      CheckParts(split, num_val_tokens ? "the validation data" : kNameOfTheEnd, seq_len));
  return split;
}

absl::StatusOr<TrainValSplit> SplitDocuments(absl::Span<const FileDocuments> files, uint64_t seed,
                                             int64_t seq_len) {
  std::vector<Source> sources;
  std::vector<TokenRange> held_back;
  int64_t num_tokens = 0;
  for (const FileDocuments& file : files) {
    if (file.begins.empty()) {
      held_back.push_back(LastTenth({num_tokens, num_tokens + file.num_tokens}));
    } else {
      AddSources(file, num_tokens, &sources);
    }
    num_tokens += file.num_tokens;
  }
  const std::vector<Group> groups = GroupsOf(sources);
  for (size_t i = 0; i < groups.size(); ++i) {
    const std::vector<TokenRange> part = HoldBack(groups[i], seed, i);
    held_back.insert(held_back.end(), part.begin(), part.end());
  }
  std::sort(held_back.begin(), held_back.end(),
            [](const TokenRange& a, const TokenRange& b) { return a.begin < b.begin; });

  TrainValSplit split;
  split.val = TokenRanges(held_back);
  split.train = Complement(split.val, num_tokens);
  split.holds_back_the_end =
      split.train == TokenRanges({{0, num_tokens - num_tokens / kHeldBackShare}});
  STRAKE_RETURN_IF_ERROR(CheckParts(split,
                                    split.holds_back_the_end
                                        ? kNameOfTheEnd
                                        : "the tenth of the training data, held back for "
                                          "validation,",
                                    seq_len));
  return split;
}

}  // namespace strake
