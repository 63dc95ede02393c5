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

// The documents of files whose documents are known, in the stream.
struct Documents {
  std::vector<TokenRange> ranges;
  int64_t num_tokens = 0;
};

void AddDocuments(const FileDocuments& file, int64_t file_begin, Documents* documents) {
  int64_t begin = 0;
  const auto add_until = [&](int64_t end) {
    CHECK(begin <= end && end <= file.num_tokens)
        << "[train_val_split] a document begins at token " << end << " of " << file.num_tokens;
    if (begin < end) documents->ranges.push_back({file_begin + begin, file_begin + end});
    begin = end;
  };
  for (const int64_t next : file.begins) add_until(next);
  add_until(file.num_tokens);
  documents->num_tokens += file.num_tokens;
}

TokenRange LastTenth(const TokenRange& range) {
  return {range.end - range.num_tokens() / kHeldBackShare, range.end};
}

// Adds the file's sources; the first may go on with the last of the file before.
void AddSources(const FileDocuments& file, int64_t file_begin, std::vector<TokenRange>* sources) {
  int64_t begin = 0;
  const auto add_until = [&](int64_t end) {
    CHECK(begin <= end && end <= file.num_tokens)
        << "[train_val_split] a source begins at token " << end << " of " << file.num_tokens;
    const bool goes_on = begin == 0 && (file.sources.empty() || file.sources[0] > 0) &&
                         !sources->empty() && sources->back().end == file_begin;
    if (goes_on) {
      sources->back().end = file_begin + end;
    } else if (begin < end) {
      sources->push_back({file_begin + begin, file_begin + end});
    }
    begin = end;
  };
  for (const int64_t next : file.sources) add_until(next);
  add_until(file.num_tokens);
}

int64_t Sum(const std::vector<TokenRange>& ranges) {
  int64_t sum = 0;
  for (const TokenRange& range : ranges) sum += range.num_tokens();
  return sum;
}

// Documents of no more than a tenth of all, in the order of the stream.
std::vector<TokenRange> DrawDocuments(const Documents& documents, uint64_t seed) {
  std::vector<TokenRange> drawn;
  const int64_t num_documents = documents.ranges.size();
  if (num_documents == 0) return drawn;
  // Another permutation than those of epochs.
  const Permutation order(num_documents, seed, StableHash("documents held back"));
  const int64_t target = documents.num_tokens / kHeldBackShare;
  int64_t left = target;
  for (int64_t i = 0; i < num_documents && left > target / kCloseEnough; ++i) {
    const TokenRange& document = documents.ranges[order(i)];
    if (document.num_tokens() > left) continue;
    drawn.push_back(document);
    left -= document.num_tokens();
  }
  std::sort(drawn.begin(), drawn.end(),
            [](const TokenRange& a, const TokenRange& b) { return a.begin < b.begin; });
  return drawn;
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
  Documents documents;
  std::vector<TokenRange> sources, held_back;
  int64_t num_tokens = 0;
  for (const FileDocuments& file : files) {
    const bool known = !file.begins.empty();
    if (known) {
      AddDocuments(file, num_tokens, &documents);
      AddSources(file, num_tokens, &sources);
    } else {
      held_back.push_back(LastTenth({num_tokens, num_tokens + file.num_tokens}));
    }
    num_tokens += file.num_tokens;
  }
  std::vector<TokenRange> drawn = DrawDocuments(documents, seed);
  const int64_t target = documents.num_tokens / kHeldBackShare, num_drawn = Sum(drawn);
  const bool too_few = num_drawn < target / 2 || num_drawn <= seq_len;
  if (too_few) std::transform(sources.begin(), sources.end(), sources.begin(), LastTenth);
  // Many short texts have no tenths.
  if (too_few && Sum(sources) > num_drawn) drawn = sources;
  held_back.insert(held_back.end(), drawn.begin(), drawn.end());
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
