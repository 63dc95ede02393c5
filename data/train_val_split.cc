#include "data/train_val_split.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace strake {

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
  const int64_t held_back = num_val_tokens ? 0 : num_train_tokens / 10;
  const int64_t train_end = num_train_tokens - held_back;
  TrainValSplit split = {{0, train_end}, {train_end, num_train_tokens}};
  if (num_val_tokens) split.val = {0, *num_val_tokens};
  STRAKE_RETURN_IF_ERROR(CheckHoldsSample("the training data", split.train.num_tokens(), seq_len));
  STRAKE_RETURN_IF_ERROR(CheckHoldsSample(
      num_val_tokens ? "the validation data"
                     : "the last 10 % of the training data, held back for validation,",
      split.val.num_tokens(), seq_len));
  return split;
}

}  // namespace strake
