// TensorBoardObserver: writes a run's events for TensorBoard (train/tensorboard/tensorboard_log.h)
// into its directory.
#ifndef STRAKE_TRAIN_TENSORBOARD_TENSORBOARD_OBSERVER_H_
#define STRAKE_TRAIN_TENSORBOARD_TENSORBOARD_OBSERVER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "train/run/train_observer.h"
#include "train/tensorboard/tensorboard_log.h"

namespace strake {

// Errors are those of the file, and name it. Events of the steps that a checkpoint covers are on
// disk before the checkpoint is. Resuming from a checkpoint cuts off the events of later steps.
class TensorBoardObserver : public TrainObserver {
 public:
  // `warn` receives a sentence for what is wrong with events that are resumed.
  explicit TensorBoardObserver(std::function<void(const std::string& text)> warn = nullptr)
      : warn_(std::move(warn)) {}

  absl::Status OnPlan(const TrainPlan& plan) override;
  absl::Status OnStart(const TrainStart& start) override;
  absl::Status OnStep(const StepMetrics& metrics) override { return log_->LogStep(metrics); }
  absl::Status OnEvaluation(const EvalMetrics& metrics) override { return log_->LogEval(metrics); }
  absl::Status OnTask(const TaskMetrics& metrics) override { return log_->LogTask(metrics); }
  absl::Status OnSample(const TrainSample& sample) override { return log_->LogSample(sample); }
  absl::Status OnSave(int64_t /*step*/) override { return log_->Sync(); }

 private:
  std::function<void(const std::string& text)> warn_;
  std::optional<TensorBoardLog> log_;  // from OnStart() on
};

}  // namespace strake

#endif  // STRAKE_TRAIN_TENSORBOARD_TENSORBOARD_OBSERVER_H_
