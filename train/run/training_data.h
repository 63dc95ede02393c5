// TrainingData: the token streams of a run, divided into what is trained on and what is held back
// to validate on.
#ifndef STRAKE_TRAIN_RUN_TRAINING_DATA_H_
#define STRAKE_TRAIN_RUN_TRAINING_DATA_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/data_loader.h"
#include "data/token_stream.h"
#include "data/train_val_split.h"
#include "train/run/trainer_options.h"

namespace strake {

class TrainingData {
 public:
  // Opens the options' files. An error names option, file and figures: files that cannot be read,
  // tokens beyond the model's vocabulary, too few for one sequence.
  static absl::StatusOr<std::unique_ptr<TrainingData>> Open(const TrainerOptions& options);

  const DataLoader& train_loader() const { return *train_loader_; }
  // In the order of the stream.
  const DataLoader& val_loader() const { return *val_loader_; }
  const TrainValSplit& split() const { return split_; }

  // Files that are trained and validated on: legal, but the validation loss then tells little.
  std::vector<std::string> CommonFiles() const;

  // Whether tokens are bytes.
  bool is_text() const;

  // The file's name, or how many files there are.
  std::string Label() const;
  // What the training tokens are, for telling runs apart; reads parts of all files.
  std::string Fingerprint() const;

  // The first tokens that are held back; there are at least `count`.
  absl::StatusOr<std::vector<int32_t>> FirstValTokens(int64_t count) const;
  // Tokens as a screen shows them: text where the data is text, and their numbers otherwise.
  std::string ToText(const std::vector<int32_t>& tokens) const;

 private:
  TrainingData() = default;
  const TokenStream& val_stream() const { return val_stream_ ? *val_stream_ : *train_stream_; }

  std::optional<TokenStream> train_stream_, val_stream_;
  TrainValSplit split_;
  std::optional<DataLoader> train_loader_, val_loader_;
};

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_TRAINING_DATA_H_
