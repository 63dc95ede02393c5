// Splits tokens into training data and held-back validation data.
//
//   without validation data   train on [0, n - h), validate on [n - h, n), h = n / 10 rounded down
//   with m tokens of it       train on [0, n), validate on [0, m) of the validation stream
//
// n tokens of training data. A DataLoader reads inputs and targets inside its range alone, so what
// is held back is never trained on.
#ifndef STRAKE_DATA_TRAIN_VAL_SPLIT_H_
#define STRAKE_DATA_TRAIN_VAL_SPLIT_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

// Tokens [begin, end) of a stream.
struct TokenRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t num_tokens() const { return end - begin; }
};

struct TrainValSplit {
  TokenRange train;  // of the training stream
  TokenRange val;    // of the validation stream; of the training stream when there is none
};

// Returns an error, with both numbers, unless `num_tokens` hold one sample of seq_len tokens and
// its last target. The sentence begins with `what`.
absl::Status CheckHoldsSample(absl::string_view what, int64_t num_tokens, int64_t seq_len);

// Returns CheckHoldsSample's error where either range is too short.
absl::StatusOr<TrainValSplit> SplitTrainVal(int64_t num_train_tokens,
                                            std::optional<int64_t> num_val_tokens, int64_t seq_len);

}  // namespace strake

#endif  // STRAKE_DATA_TRAIN_VAL_SPLIT_H_
