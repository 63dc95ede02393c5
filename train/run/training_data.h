// TrainingData: the token streams of a run, split into training and validation data.
#ifndef STRAKE_TRAIN_RUN_TRAINING_DATA_H_
#define STRAKE_TRAIN_RUN_TRAINING_DATA_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/thread_team.h"
#include "data/data_loader.h"
#include "data/token_stream.h"
#include "data/train_val_split.h"
#include "train/run/trainer_options.h"

namespace strake {

class TrainingData {
 public:
  // Opens the options' files. An error names option, file and figures: for files that cannot be
  // read, tokens outside the model's vocabulary, and too few tokens for one sequence.
  static absl::StatusOr<std::unique_ptr<TrainingData>> Open(const TrainerOptions& options);

  const DataLoader& train_loader() const { return *train_loader_; }
  // In the order of the stream.
  const DataLoader& val_loader() const { return *val_loader_; }
  const TrainValSplit& split() const { return split_; }

  // Files used for both training and validation: legal, but the validation loss is then misleading.
  std::vector<std::string> CommonFiles() const;

  // Whether tokens are bytes.
  bool is_text() const;

  // The file's name, or the number of files.
  std::string Label() const;

  // Identifies the training tokens, to tell runs apart: 32 digits of all tokens, or 16 of samples
  // where there are more than options.data_fingerprint_tokens; then how many are trained on. Reads
  // what it hashes.
  std::string Fingerprint(ThreadTeam& team) const;
  // The same, of as many tokens as `recorded` is, a result of it in another run or version.
  std::string FingerprintLike(const std::string& recorded, ThreadTeam& team) const;
  // When the newest training file was changed, in seconds since 1970; 0 where Fingerprint() is of
  // all tokens. A copy of a file may have another time.
  int64_t TimeOfSampledFiles() const;

  // The first tokens of the validation data; there are at least `count`.
  absl::StatusOr<std::vector<int32_t>> FirstValTokens(int64_t count) const;
  // Formats tokens for the screen: as text where the data is text, as numbers otherwise.
  std::string ToText(const std::vector<int32_t>& tokens) const;

 private:
  TrainingData() = default;
  bool all_tokens_count() const { return train_stream_->num_tokens() <= max_fingerprint_tokens_; }
  std::string FingerprintOf(bool all_tokens, ThreadTeam& team) const;
  const TokenStream& val_stream() const { return val_stream_ ? *val_stream_ : *train_stream_; }

  int64_t max_fingerprint_tokens_ = 0;
  std::optional<TokenStream> train_stream_, val_stream_;
  TrainValSplit split_;
  std::optional<DataLoader> train_loader_, val_loader_;
};

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_TRAINING_DATA_H_
