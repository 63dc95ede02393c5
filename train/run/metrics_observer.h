// MetricsObserver: writes a run's metrics.jsonl (train/run/metrics_log.h) into its directory.
#ifndef STRAKE_TRAIN_RUN_METRICS_OBSERVER_H_
#define STRAKE_TRAIN_RUN_METRICS_OBSERVER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "train/run/metrics_log.h"
#include "train/run/train_observer.h"

namespace strake {

// Errors are those of the file, and name it. Lines of the steps that a checkpoint covers are on
// disk before the checkpoint is. Resuming from a checkpoint cuts off the lines of later steps.
class MetricsObserver : public TrainObserver {
 public:
  // `warn` receives a sentence for what is wrong with a log that is resumed.
  explicit MetricsObserver(std::function<void(const std::string& text)> warn = nullptr)
      : warn_(std::move(warn)) {}

  absl::Status OnPlan(const TrainPlan& plan) override;
  absl::Status OnStart(const TrainStart& start) override;
  absl::Status OnStep(const StepMetrics& metrics) override { return log_->LogStep(metrics); }
  absl::Status OnEvaluation(const EvalMetrics& metrics) override { return log_->LogEval(metrics); }
  absl::Status OnTask(const TaskMetrics& metrics) override { return log_->LogTask(metrics); }
  absl::Status OnSave(int64_t /*step*/) override { return log_->Sync(); }

 private:
  std::function<void(const std::string& text)> warn_;
  std::optional<MetricsLog> log_;  // from OnStart() on
};

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_METRICS_OBSERVER_H_
