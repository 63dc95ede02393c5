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

// The parts of a row that a rank holds: one, where its chunks meet.
std::vector<ShardRange> PartsOf(int64_t seq_len, const SequenceChunks& chunks) {
  const auto [first, second] = chunks.Of(seq_len);
  if (first.end == second.begin) return {{first.begin, second.end}};
  return {first, second};
}

// Sets `pieces` to what of a row's lies in a part of it.
void Cut(const std::vector<DocumentRows::Piece>& row, const ShardRange& part,
         std::vector<DocumentRows::Piece>* pieces) {
  pieces->clear();
  int64_t begin = 0;  // of the piece, in the row
  for (const DocumentRows::Piece& piece : row) {
    const int64_t end = begin + piece.num_tokens;
    const int64_t from = std::max(begin, part.begin), to = std::min(end, part.end);
    if (from < to) {
      pieces->push_back({piece.begin + from - begin, to - from, to < end || piece.goes_on});
    }
    begin = end;
  }
}

// Sets the positions in a part of a row of documents of these lengths.
void SetPositions(absl::Span<const int64_t> lengths, const ShardRange& part, int32_t* positions) {
  int64_t begin = 0;  // of the document, in the row
  for (const int64_t length : lengths) {
    const int64_t from = std::max(begin, part.begin), to = std::min(begin + length, part.end);
    if (from < to) {
      std::iota(positions, positions + (to - from), static_cast<int32_t>(from - begin));
      positions += to - from;
    }
    begin += length;
  }
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

absl::Status DataLoader::Load(int64_t first_sample, int64_t count, TokenBatch* batch,
                              const SequenceChunks& chunks) const {
  const int64_t seq_len = options_.seq_len;
  const bool positions = batch->positions.defined();
  CHECK(chunks.Divide(seq_len)) << "[data_loader] samples of " << seq_len << " tokens over "
                                << chunks.num_ranks << " ranks";
  CHECK(first_sample >= 0 && count >= 0 &&
        batch->tokens.shape() == Shape{count * chunks.NumLocal(seq_len)} &&
        batch->targets.shape() == batch->tokens.shape() &&
        (!positions || batch->positions.shape() == batch->tokens.shape()))
      << "[data_loader] " << count << " samples of " << seq_len << " from " << first_sample
      << ": tokens " << batch->tokens.ToString() << ", targets " << batch->targets.ToString();
  CHECK(positions || options_.documents == DocumentMode::kConcat)
      << "[data_loader] documents without positions";
  batch->lengths.clear();
  const std::vector<ShardRange> parts = PartsOf(seq_len, chunks);
  Pieces row, pieces;
  int64_t at = 0;  // in the batch
  for (int64_t i = 0; i < count; ++i) {
    const int64_t sample = first_sample + i;
    rows_.Row(RowOf(sample), sample / num_samples(), &row);
    const size_t first_length = batch->lengths.size();
    if (positions) AddLengths(row, &batch->lengths);
    for (const ShardRange& part : parts) {
      Cut(row, part, &pieces);
      const auto of_part = [&](const Tensor& all) {
        return absl::MakeSpan(all.data<int32_t>() + at, part.size());
      };
      STRAKE_RETURN_IF_ERROR(ReadPieces(pieces, of_part(batch->tokens)));
      STRAKE_RETURN_IF_ERROR(SetTargets(pieces, of_part(batch->tokens), of_part(batch->targets)));
      if (positions) {
        SetPositions(absl::MakeConstSpan(batch->lengths).subspan(first_length), part,
                     of_part(batch->positions).data());
      }
      at += part.size();
    }
  }
  return absl::OkStatus();
}

absl::Status DataLoader::Load(int64_t first_sample, int64_t count, Tensor tokens,
                              Tensor targets) const {
  TokenBatch batch = {.tokens = std::move(tokens), .targets = std::move(targets)};
  return Load(first_sample, count, &batch);
}

// Pieces that follow each other are read at once.
absl::Status DataLoader::ReadPieces(const Pieces& pieces, absl::Span<int32_t> tokens) const {
  int32_t* to = tokens.data();
  for (size_t i = 0; i < pieces.size();) {
    const int64_t begin = pieces[i].begin;
    int64_t count = 0;
    for (; i < pieces.size() && pieces[i].begin == begin + count; ++i) {
      count += pieces[i].num_tokens;
    }
    STRAKE_RETURN_IF_ERROR(ranges_.Read(*stream_, begin, count, to));
    to += count;
  }
  std::fill(to, tokens.data() + tokens.size(), 0);
  return absl::OkStatus();
}

// The last target may lie behind the tokens, and is read alone.
absl::Status DataLoader::SetTargets(const Pieces& pieces, absl::Span<const int32_t> tokens,
                                    absl::Span<int32_t> targets) const {
  if (rows_.has_targets()) {
    std::fill(targets.begin(), targets.end(), kNoTarget);
    SetTargetsInRanges(pieces, tokens.data(), targets.data());
  } else {
    SetTargetsOfText(pieces, tokens, targets);
  }
  if (pieces.empty() || !pieces.back().goes_on) return absl::OkStatus();
  const int64_t next = pieces.back().begin + pieces.back().num_tokens;
  return IsTarget(next) ? ranges_.Read(*stream_, next, 1, &targets.back()) : absl::OkStatus();
}

bool DataLoader::IsTarget(int64_t token) const {
  bool counts = !rows_.has_targets();
  rows_.VisitTargets(token, token + 1, [&](int64_t, int64_t) { counts = true; });
  return counts;
}

void DataLoader::SetTargetsOfText(const Pieces& pieces, absl::Span<const int32_t> tokens,
                                  absl::Span<int32_t> targets) const {
  std::copy(tokens.begin() + 1, tokens.end(), targets.begin());
  int64_t at = 0;
  for (const DocumentRows::Piece& piece : pieces) {
    at += piece.num_tokens;
    targets[at - 1] = kNoTarget;
  }
  std::fill(targets.begin() + at, targets.end(), kNoTarget);
}

void DataLoader::SetTargetsInRanges(const Pieces& pieces, const int32_t* tokens,
                                    int32_t* targets) const {
  for (const DocumentRows::Piece& piece : pieces) {
    const int64_t begin = piece.begin;
    rows_.VisitTargets(begin + 1, begin + piece.num_tokens, [&](int64_t from, int64_t to) {
      std::copy(tokens + from - begin, tokens + to - begin, targets + from - begin - 1);
    });
    tokens += piece.num_tokens;
    targets += piece.num_tokens;
  }
}

// The padding is a document, too.
void DataLoader::AddLengths(const Pieces& pieces, std::vector<int64_t>* lengths) const {
  int64_t left = options_.seq_len;
  for (const DocumentRows::Piece& piece : pieces) {
    lengths->push_back(piece.num_tokens);
    left -= piece.num_tokens;
  }
  if (left > 0) lengths->push_back(left);
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
