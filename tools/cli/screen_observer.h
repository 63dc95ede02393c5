// ScreenObserver: prints the events of a run of //tools:train.
#ifndef STRAKE_TOOLS_CLI_SCREEN_OBSERVER_H_
#define STRAKE_TOOLS_CLI_SCREEN_OBSERVER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tools/cli/progress.h"
#include "tools/cli/train_config.h"
#include "train/run/train_observer.h"

namespace strake {

// Prints warnings alone on a quiet screen, and at the end the lines of the last step.
class ScreenObserver : public TrainObserver {
 public:
  // Both must outlive the observer.
  ScreenObserver(const TrainCommand& command, Progress* screen)
      : command_(command), screen_(screen) {}

  absl::Status OnWarning(const std::string& text) override;
  absl::Status OnNote(const std::string& text) override;
  absl::Status OnPrepare(const PrepareProgress& progress) override;
  absl::Status OnPlan(const TrainPlan& plan) override;
  absl::Status OnMemory(size_t done_bytes, size_t total_bytes) override;
  absl::Status OnWork(const WorkState& work) override;
  absl::Status OnStart(const TrainStart& start) override;
  absl::Status OnStep(const StepMetrics& metrics) override;
  absl::Status OnEvaluation(const EvalMetrics& metrics) override;
  absl::Status OnTask(const TaskMetrics& metrics) override;
  absl::Status OnSample(const TrainSample& sample) override;
  absl::Status OnCheckpoint(const TrainCheckpoint& checkpoint) override;
  absl::Status OnEnd(const TrainEnd& end) override;

 private:
  bool quiet() const { return screen_->quiet(); }
  void PrintHeaderLine(const char* name, const std::string& text);
  // Prints the line of a step, or keeps it for the end where it is quiet.
  void PrintResult(const std::string& line);
  bool IsStepWithLine(int64_t step) const;

  const TrainCommand& command_;
  Progress* const screen_;
  int64_t num_steps_ = 0;    // of the run
  int64_t steps_timed_ = 0;  // since this process started
  double seconds_per_step_ = 0;
  int64_t last_step_ = 0;
  std::vector<std::string> results_;  // of the last step, where it is quiet
};

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_SCREEN_OBSERVER_H_
