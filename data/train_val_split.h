// Splits tokens into training data and held-back validation data.
//
//   with validation data   train on all n tokens, validate on all m of the validation data
//   without                a tenth is held back: whole documents if known and short enough,
//                          else the last tenth of each source: of each text or token file
//
// Documents are drawn by a seed from all files, so that what is held back is like the rest, and no
// document is both trained and validated on. A split is a function of its arguments. A DataLoader
// reads inputs and targets inside its ranges alone, so what is held back is never trained on.
#ifndef STRAKE_DATA_TRAIN_VAL_SPLIT_H_
#define STRAKE_DATA_TRAIN_VAL_SPLIT_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "data/token_ranges.h"

namespace strake {

struct TrainValSplit {
  TokenRanges train;  // of the training stream
  TokenRanges val;    // of the validation stream; of the training stream when there is none
  // Whether what is held back, if anything, is the end of the training stream.
  bool holds_back_the_end = true;
};

// Where the documents of a file of a stream begin.
struct FileDocuments {
  int64_t num_tokens = 0;            // of the file
  std::vector<int64_t> begins = {};  // in the file, ascending; empty where they are not known
  // Where the texts that the documents come from begin, likewise. Tokens before the first are of
  // the last text of the file before.
  std::vector<int64_t> sources = {0};
  // Whether documents are of no use in parts, as conversations: none is cut.
  bool whole = false;
};

// Returns an error, with both numbers, unless `num_tokens` hold one sample of seq_len tokens and
// its last target. With a seq_len of 0, samples are of any length above. The sentence begins with
// `what`.
absl::Status CheckHoldsSample(absl::string_view what, int64_t num_tokens, int64_t seq_len);

// Holds back the last tenth of the stream, rounded down, or nothing where there is validation data.
// Returns CheckHoldsSample's error where either part is too short.
absl::StatusOr<TrainValSplit> SplitTrainVal(int64_t num_train_tokens,
                                            std::optional<int64_t> num_val_tokens, int64_t seq_len);

// Holds back documents of a stream of these files:
//
//   each source of several documents, and all sources of one document together:
//                 documents in the order of Permutation(seed), each that still fits into a tenth;
//                 if that is less than half of it, the last tenth of each source; of documents that
//                 are not cut at least one, the shortest, where there are two
//   files of unknown documents: the last tenth of each, rounded down
//
// Returns CheckHoldsSample's error where either part is too short.
absl::StatusOr<TrainValSplit> SplitDocuments(absl::Span<const FileDocuments> files, uint64_t seed,
                                             int64_t seq_len);

}  // namespace strake

#endif  // STRAKE_DATA_TRAIN_VAL_SPLIT_H_
