#include "data/data_loader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "data/permutation.h"
#include "data/train_val_split.h"
#include "glog/logging.h"

namespace strake {

absl::StatusOr<DataLoader> DataLoader::Create(const TokenStream* stream, TokenRanges ranges,
                                              const Options& options) {
  for (const TokenRange& range : ranges.ranges()) {
    CHECK(range.begin >= 0 && range.end <= stream->num_tokens())
        << "[data_loader] tokens [" << range.begin << ", " << range.end << ") of "
        << stream->num_tokens();
  }
  if (options.seq_len < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("sequence length ", options.seq_len, " is not at least 1"));
  }
  const int64_t num_tokens = ranges.num_tokens();
  STRAKE_RETURN_IF_ERROR(CheckHoldsSample("the data", num_tokens, options.seq_len));
  return DataLoader(stream, std::move(ranges), (num_tokens - 1) / options.seq_len, options);
}

absl::Status DataLoader::Load(int64_t first_sample, int64_t count, Tensor tokens,
                              Tensor targets) const {
  const int64_t seq_len = options_.seq_len;
  CHECK(first_sample >= 0 && count >= 0 && tokens.shape() == Shape{count * seq_len} &&
        targets.shape() == tokens.shape())
      << "[data_loader] " << count << " samples of " << seq_len << " from " << first_sample
      << ": tokens " << tokens.ToString() << ", targets " << targets.ToString();
  for (int64_t i = 0; i < count; ++i) {
    STRAKE_RETURN_IF_ERROR(LoadOne(first_sample + i, tokens.data<int32_t>() + i * seq_len,
                                   targets.data<int32_t>() + i * seq_len));
  }
  return absl::OkStatus();
}

int64_t DataLoader::RowOf(int64_t sample) const {
  const int64_t epoch = sample / num_samples_, index = sample % num_samples_;
  return options_.shuffle ? Permutation(num_samples_, options_.seed, epoch)(index) : index;
}

absl::Status DataLoader::LoadOne(int64_t sample, int32_t* tokens, int32_t* targets) const {
  const int64_t seq_len = options_.seq_len;
  const int64_t begin = RowOf(sample) * seq_len;
  STRAKE_RETURN_IF_ERROR(ranges_.Read(*stream_, begin, seq_len, tokens));
  std::copy(tokens + 1, tokens + seq_len, targets);
  return ranges_.Read(*stream_, begin + seq_len, 1, targets + seq_len - 1);
}

std::vector<TokenRange> DataLoader::TokensOf(int64_t sample) const {
  std::vector<TokenRange> ranges;
  ranges_.Locate(RowOf(sample) * options_.seq_len, options_.seq_len, &ranges);
  return ranges;
}

}  // namespace strake
