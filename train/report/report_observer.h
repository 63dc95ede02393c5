// ReportObserver: keeps a run's report.html (train/report/run_report.h) in its directory.
#ifndef STRAKE_TRAIN_REPORT_REPORT_OBSERVER_H_
#define STRAKE_TRAIN_REPORT_REPORT_OBSERVER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/base/appended_file.h"
#include "core/base/op_profile.h"
#include "nlohmann/json.hpp"
#include "parallel/comm/collective_call.h"
#include "train/report/run_report.h"
#include "train/run/train_observer.h"

namespace strake {

class Communicator;

// Writes the page after the step that follows an evaluation or a sample, and at the end; and
// report.jsonl (train/report/run_history.h) as things happen. A run goes on without them: where a
// file cannot be written, `warn` receives a sentence, once, and no further one is written. Files of
// these names in a directory that holds no run are an error of OnPlan(), which names them.
//
// Must come after MetricsObserver: it reads the log of a run that is resumed.
class ReportObserver : public TrainObserver {
 public:
  // `machine` describes what a rank computes on. This process runs `num_ranks` of the ranks, on
  // `gpu` where they compute on one, whose memory is read now and at the end.
  ReportObserver(std::string machine, int num_ranks, std::optional<int> gpu = std::nullopt,
                 std::function<void(const std::string& text)> warn = nullptr);

  absl::Status OnWarning(const std::string& text) override { return Tell("warning", text); }
  absl::Status OnNote(const std::string& text) override { return Tell("note", text); }
  absl::Status OnPlan(const TrainPlan& plan) override;
  absl::Status OnStart(const TrainStart& start) override;
  absl::Status OnStep(const StepMetrics& metrics) override;
  absl::Status OnOps(const StepOps& ops) override;
  absl::Status OnEvaluation(const EvalMetrics& metrics) override;
  absl::Status OnTask(const TaskMetrics& metrics) override;
  absl::Status OnSample(const TrainSample& sample) override;
  absl::Status OnSave(int64_t step) override;
  absl::Status OnEnd(const TrainEnd& end) override;

 private:
  // Calls and bytes by axis and collective.
  struct Count {
    int64_t calls = 0, bytes = 0;
  };
  using Counts = std::map<std::pair<std::string, CollectiveKind>, Count>;

  double LimitOf(const OpCost& cost) const;
  Counts Communicated() const;
  void CountStep(int64_t step);
  absl::Status Log(const std::string& kind, const std::string& text);
  absl::Status Tell(const std::string& kind, const std::string& text);
  void Append(nlohmann::ordered_json record);
  void AppendMemory();
  void AppendObserved(const char* what, uint64_t bytes);
  void WritePage();
  void GiveUp(const absl::Status& reason);
  absl::Status Read();
  absl::Status Open();
  void Begin();

  std::string machine_;
  int num_ranks_;
  std::optional<int> gpu_;
  size_t free_gpu_bytes_ = 0;  // before the run
  std::function<void(const std::string& text)> warn_;
  std::string directory_;
  double flops_per_second_ = 0, bytes_per_second_ = 0;  // of a rank; 0: not known
  std::vector<const Communicator*> communicators_;      // until a step was counted
  Counts counts_;                                       // after the step before
  std::atomic<bool> only_step_ = false;                 // nothing else came since
  int64_t step_ = 0;
  bool due_ = false;      // the page is older than what was evaluated
  bool gave_up_ = false;  // a file could not be written
  RunReport report_;
  std::vector<nlohmann::ordered_json> waiting_;  // for the file, until it is open
  std::optional<AppendedFile> file_;
};

}  // namespace strake

#endif  // STRAKE_TRAIN_REPORT_REPORT_OBSERVER_H_
