// MetricsLog: OUT/metrics.jsonl, one JSON object per line.
//
//   {"step":1,"loss":10.9,"lr":0.001,"grad_norm":2.5,"tokens":256,"seconds":0.5,
//    "tokens_per_second":512,"time":1800000000.125,"epoch":0.5,"mfu":0.25}       (one line)
//   {...,"epoch":0.5,"sources":{"books":{"tokens":160,"loss":10.8},...}}
//   {"step":1,"val_loss":10.8}
//   {"step":1,"val_data":"books","val_loss":10.8,"val_bits_per_byte":3.2}
//
//   {"step":1,"eval_task":"arc","acc":0.25,"acc_norm":0.3,"examples":100}
//
// These keys in this order; "mfu" where it is known; "sources" where the training data has several,
// with those that the step has samples of; "val_data" where the validation data has a name,
// "val_bits_per_byte" where EvalMetrics has it. Floating-point numbers are the shortest that read
// back exactly; null where they are not finite, which JSON cannot express.
#ifndef STRAKE_TRAIN_RUN_METRICS_LOG_H_
#define STRAKE_TRAIN_RUN_METRICS_LOG_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/appended_file.h"
#include "train/run/train_observer.h"

namespace strake {

// What is read of metrics.jsonl, so that no more is written: 20 million steps.
inline constexpr int64_t kMaxMetricsLogBytes = int64_t{4} << 30;

// Sync() may be called on one thread while another logs.
class MetricsLog {
 public:
  // Truncates the file to the lines of steps up to the start's, without the evaluation of that step
  // if the run evaluates next. A crash leaves the old file or the new. Half a line at the end,
  // which a killed run leaves, is cut; other lines that are damaged are moved to PATH.damaged.
  // Returns an error that names the path; FailedPrecondition for a file with contents where the
  // directory did not hold the run.
  // CheckIsFree() is that error, before anything is written.
  static absl::Status CheckIsFree(const std::string& path);
  static absl::StatusOr<MetricsLog> Open(const std::string& path, const TrainStart& start);

  // What a person should know about the file as it was: damaged or missing lines.
  const std::vector<std::string>& notes() const { return notes_; }

  // Each appends one line, in one write, that other processes see at once. Lines that a full or
  // failing disk does not take are kept, and written with later ones. Errors name the path.
  absl::Status LogStep(const StepMetrics& metrics);
  absl::Status LogEval(const EvalMetrics& metrics);
  absl::Status LogTask(const TaskMetrics& metrics);

  // Flushes the log to disk: call it before writing a checkpoint that a run may resume from. After
  // an error it may be called again.
  absl::Status Sync() { return file_.Sync(); }

 private:
  MetricsLog(AppendedFile file, std::vector<std::string> notes);

  AppendedFile file_;
  std::vector<std::string> notes_;
};

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_METRICS_LOG_H_
