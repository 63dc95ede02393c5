// Trainer: a run of //tools:train from its configuration to its last checkpoint, on one rank.
#ifndef STRAKE_TRAIN_RUN_TRAINER_H_
#define STRAKE_TRAIN_RUN_TRAINER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/tensor/tensor_buffer.h"
#include "models/model_config.h"
#include "nlohmann/json.hpp"
#include "parallel/mesh/mesh.h"
#include "tools/cli/progress.h"
#include "tools/cli/train_config.h"
#include "train/engine/engine.h"
#include "train/run/metrics_log.h"
#include "train/run/run_directory.h"
#include "train/run/run_record.h"
#include "train/run/training_data.h"

namespace strake {

// Every rank of the mesh makes one and runs it. The first rank alone writes --out, where all read
// the checkpoint that they go on from; what it prints is about the whole run, and the other ranks'
// screens should show nothing.
class Trainer {
 public:
  // Reads model and data, checks everything that can be checked, claims --out, and brings weights,
  // optimizer and data position to where the run stands. Writes to `screen`, which must outlive the
  // trainer, as must `mesh`. No file of an earlier run is changed before all checks have passed on
  // all ranks.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(const TrainCommand& command,
                                                         const Mesh& mesh, Progress* screen);

  // Trains until the last step, or until the end of one during which StopRequested() on any rank;
  // either way the last step done is saved.
  absl::Status Run();

 private:
  Trainer(const TrainCommand& command, const Mesh& mesh, Progress* screen)
      : config_(command.config), model_(command.model), mesh_(mesh), screen_(screen) {}

  bool is_first_rank() const { return mesh_.rank() == 0; }
  absl::Status OpenData();
  absl::Status MakeEngine();
  absl::Status OpenRun();
  absl::Status SetWeights(const std::string& checkpoint);
  RunRecord Record() const;
  void PrintHeader() const;
  void PrintHeaderLine(const char* name, const std::string& text) const;

  absl::Status Step();
  absl::Status AccumulateGradients();
  absl::Status Report(double loss_sum, double lr, double norm, double seconds);
  absl::Status Evaluate();
  absl::Status PrintSample();
  absl::Status Save();
  absl::Status NameStep(int64_t step, const absl::Status& status) const;

  const TrainConfig config_;
  const ModelConfig model_;
  const Mesh& mesh_;
  Progress* const screen_;
  std::unique_ptr<TrainingData> data_;
  std::unique_ptr<Engine> engine_;
  nlohmann::ordered_json identity_;
  // The first rank's alone.
  std::optional<RunDirectory> directory_;
  std::optional<MetricsLog> metrics_;

  TensorBuffer tokens_, targets_;  // one micro-batch, i32

  int64_t step_ = 0;         // done
  int64_t samples_ = 0;      // consumed
  int64_t saved_step_ = 0;   // the last in a checkpoint in --out; 0 is a run that has none
  bool stop_ = false;        // agreed on by all ranks
  int64_t steps_timed_ = 0;  // since this process began
  double seconds_per_step_ = 0;
};

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_TRAINER_H_
