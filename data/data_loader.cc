#include "data/data_loader.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "data/permutation.h"
#include "data/train_val_split.h"
#include "glog/logging.h"

namespace strake {
namespace {

// Where documents begin in the sequence of the ranges: where one of the stream or a range does.
std::vector<int64_t> BeginsIn(const TokenRanges& ranges, const std::vector<int64_t>& begins) {
  std::vector<int64_t> result;
  int64_t at = 0;  // of the range in the sequence
  auto next = begins.begin();
  for (const TokenRange& range : ranges.ranges()) {
    result.push_back(at);
    next = std::upper_bound(next, begins.end(), range.begin);
    for (; next != begins.end() && *next < range.end; ++next) {
      const int64_t begin = at + *next - range.begin;
      if (begin > result.back()) result.push_back(begin);
    }
    at += range.num_tokens();
  }
  return result;
}

// The parts of ascending `targets` in the sequence of the ranges.
std::vector<TokenRange> TargetsIn(const TokenRanges& ranges,
                                  const std::vector<TokenRange>& targets) {
  std::vector<TokenRange> result;
  int64_t at = 0;
  for (const TokenRange& range : ranges.ranges()) {
    auto next = std::partition_point(targets.begin(), targets.end(), [&](const TokenRange& each) {
      return each.end <= range.begin;
    });
    for (; next != targets.end() && next->begin < range.end; ++next) {
      const int64_t begin = std::max(next->begin, range.begin),
                    end = std::min(next->end, range.end);
      result.push_back({at + begin - range.begin, at + end - range.begin});
    }
    at += range.num_tokens();
  }
  return result;
}

}  // namespace

absl::StatusOr<DataLoader> DataLoader::Create(const TokenStream* stream, TokenRanges ranges,
                                              const Options& options,
                                              const StreamDocuments& documents) {
  for (const TokenRange& range : ranges.ranges()) {
    CHECK(range.begin >= 0 && range.end <= stream->num_tokens())
        << "[data_loader] tokens [" << range.begin << ", " << range.end << ") of "
        << stream->num_tokens();
  }
  if (options.seq_len < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("sequence length ", options.seq_len, " is not at least 1"));
  }
  const bool concat = options.documents == DocumentMode::kConcat;
  CHECK(concat || !documents.begins.empty()) << "[data_loader] documents that are not known";
  const int64_t num_tokens = ranges.num_tokens();
  const bool is_stream = options.documents != DocumentMode::kPad && !documents.targets.has_value();
  STRAKE_RETURN_IF_ERROR(
      CheckHoldsSample("the data", num_tokens, concat || is_stream ? options.seq_len : 0));
  std::optional<std::vector<TokenRange>> targets;
  if (!concat && documents.targets) targets = TargetsIn(ranges, documents.targets->ranges);
  STRAKE_ASSIGN_OR_RETURN(
      DocumentRows rows,
      DocumentRows::Create(
          num_tokens, concat ? std::vector<int64_t>() : BeginsIn(ranges, documents.begins),
          std::move(targets),
          {options.seq_len, options.documents, options.truncate, options.seed, options.shuffle}));
  return DataLoader(stream, std::move(ranges), std::move(rows), options);
}

DataLoader::LongDocuments DataLoader::FindLongDocuments(const TokenRanges& ranges,
                                                        const std::vector<int64_t>& begins,
                                                        int64_t seq_len) {
  LongDocuments found;
  std::vector<int64_t> bounds = BeginsIn(ranges, begins);
  found.of = static_cast<int64_t>(bounds.size());
  bounds.push_back(ranges.num_tokens());
  for (size_t i = 0; i + 1 < bounds.size(); ++i) {
    const int64_t num_tokens = bounds[i + 1] - bounds[i];
    if (num_tokens <= seq_len) continue;
    found.num_beyond += num_tokens - seq_len;
    if (found.count++ > 0) continue;
    std::vector<TokenRange> place;
    ranges.Locate(bounds[i], num_tokens, &place);
    found.first = place.front();
  }
  return found;
}

int64_t DataLoader::RowOf(int64_t sample) const {
  const int64_t row = sample % num_samples();
  if (!options_.shuffle) return row;
  return Permutation(num_samples(), options_.seed, sample / num_samples())(row);
}

absl::Status DataLoader::Load(int64_t first_sample, int64_t count, TokenBatch* batch) const {
  const int64_t seq_len = options_.seq_len;
  const bool positions = batch->positions.defined();
  CHECK(first_sample >= 0 && count >= 0 && batch->tokens.shape() == Shape{count * seq_len} &&
        batch->targets.shape() == batch->tokens.shape() &&
        (!positions || batch->positions.shape() == batch->tokens.shape()))
      << "[data_loader] " << count << " samples of " << seq_len << " from " << first_sample
      << ": tokens " << batch->tokens.ToString() << ", targets " << batch->targets.ToString();
  CHECK(positions || options_.documents == DocumentMode::kConcat)
      << "[data_loader] documents without positions";
  batch->lengths.clear();
  Pieces pieces;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t sample = first_sample + i;
    rows_.Row(RowOf(sample), sample / num_samples(), &pieces);
    int32_t* const tokens = batch->tokens.data<int32_t>() + i * seq_len;
    int32_t* const targets = batch->targets.data<int32_t>() + i * seq_len;
    STRAKE_RETURN_IF_ERROR(ReadPieces(pieces, tokens));
    if (rows_.has_targets()) {
      SetTargetsInRanges(pieces, tokens, targets);
    } else {
      STRAKE_RETURN_IF_ERROR(SetTargets(pieces, tokens, targets));
    }
    if (!positions) continue;
    SetPositions(pieces, batch->positions.data<int32_t>() + i * seq_len, &batch->lengths);
  }
  return absl::OkStatus();
}

absl::Status DataLoader::Load(int64_t first_sample, int64_t count, Tensor tokens,
                              Tensor targets) const {
  TokenBatch batch = {.tokens = std::move(tokens), .targets = std::move(targets)};
  return Load(first_sample, count, &batch);
}

// Pieces that follow each other are read at once.
absl::Status DataLoader::ReadPieces(const Pieces& pieces, int32_t* tokens) const {
  int32_t* const end = tokens + options_.seq_len;
  for (size_t i = 0; i < pieces.size();) {
    const int64_t begin = pieces[i].begin;
    int64_t count = 0;
    for (; i < pieces.size() && pieces[i].begin == begin + count; ++i) {
      count += pieces[i].num_tokens;
    }
    STRAKE_RETURN_IF_ERROR(ranges_.Read(*stream_, begin, count, tokens));
    tokens += count;
  }
  std::fill(tokens, end, 0);
  return absl::OkStatus();
}

absl::Status DataLoader::SetTargets(const Pieces& pieces, const int32_t* tokens,
                                    int32_t* targets) const {
  const int64_t seq_len = options_.seq_len;
  std::copy(tokens + 1, tokens + seq_len, targets);
  int64_t at = 0;
  for (const DocumentRows::Piece& piece : pieces) {
    at += piece.num_tokens;
    targets[at - 1] = kNoTarget;
  }
  std::fill(targets + at, targets + seq_len, kNoTarget);
  const DocumentRows::Piece& last = pieces.back();
  if (!last.goes_on) return absl::OkStatus();
  return ranges_.Read(*stream_, last.begin + last.num_tokens, 1, targets + at - 1);
}

void DataLoader::SetTargetsInRanges(const Pieces& pieces, const int32_t* tokens,
                                    int32_t* targets) const {
  std::fill(targets, targets + options_.seq_len, kNoTarget);
  for (const DocumentRows::Piece& piece : pieces) {
    const int64_t begin = piece.begin;
    rows_.VisitTargets(begin + 1, begin + piece.num_tokens, [&](int64_t from, int64_t to) {
      std::copy(tokens + from - begin, tokens + to - begin, targets + from - begin - 1);
    });
    tokens += piece.num_tokens;
    targets += piece.num_tokens;
  }
}

void DataLoader::SetPositions(const Pieces& pieces, int32_t* positions,
                              std::vector<int64_t>* lengths) const {
  int64_t left = options_.seq_len;
  const auto add = [&](int64_t length) {
    std::iota(positions, positions + length, 0);
    positions += length;
    left -= length;
    lengths->push_back(length);
  };
  for (const DocumentRows::Piece& piece : pieces) add(piece.num_tokens);
  if (left > 0) add(left);
}

int64_t DataLoader::NumTargets(int64_t first_sample, int64_t count) const {
  CHECK(first_sample >= 0 && count >= 0)
      << "[data_loader] " << count << " samples from " << first_sample;
  if (options_.documents == DocumentMode::kConcat) return count * options_.seq_len;
  int64_t sum = 0;
  for (int64_t sample = first_sample; sample < first_sample + count; ++sample) {
    sum += rows_.NumTargets(RowOf(sample), sample / num_samples());
  }
  return sum;
}

std::vector<TokenRange> DataLoader::TokensOf(int64_t sample) const {
  Pieces pieces;
  rows_.Row(RowOf(sample), sample / num_samples(), &pieces);
  std::vector<TokenRange> ranges;
  for (const DocumentRows::Piece& piece : pieces) {
    ranges_.Locate(piece.begin, piece.num_tokens, &ranges);
  }
  return ranges;
}

}  // namespace strake
