// RunData: the training data of a run that began before, in its order, from its record and its
// files. No model is made.
#ifndef STRAKE_TRAIN_RUN_RUN_DATA_H_
#define STRAKE_TRAIN_RUN_RUN_DATA_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "train/run/run_record.h"
#include "train/run/run_tokenizer.h"
#include "train/run/trainer_options.h"
#include "train/run/training_data.h"

namespace strake {

struct RunData {
  TrainerOptions options = {};
  RunTokenizer tokenizer = {};
  std::unique_ptr<TrainingData> data = {};
};

// Opens the data of the run at `directory`, a run's or a checkpoint's, as the trainer does: text is
// prepared again where its tokens are not in the cache. `options` are those of `record`. An error
// names what is missing, and FailedPrecondition lists both values where data and options are not
// what the run was trained on, by the fingerprint in its record.
absl::StatusOr<RunData> OpenRunData(const std::string& directory, const RunRecord& record,
                                    const TrainerOptions& options);

// options.data_cache; "": data_cache beside options.directory.
std::string DataCacheOf(const TrainerOptions& options);

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_RUN_DATA_H_
