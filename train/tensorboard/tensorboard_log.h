// TensorBoardLog: OUT/tensorboard/, which TensorBoard shows.
//
//   tag                                                        what metrics.jsonl calls it
//   train/loss, train/learning_rate, train/grad_norm           loss, lr, grad_norm
//   train/tokens, train/targets, train/seconds,                tokens, targets, seconds,
//     train/tokens_per_second, train/epoch, train/mfu            tokens_per_second, epoch, mfu
//   sources/NAME/loss, sources/NAME/tokens, .../targets        the members of sources
//   validation/loss, validation/bits_per_byte,                 val_loss, val_bits_per_byte
//     validation/NAME/loss, validation/NAME/bits_per_byte        of val_data
//   tasks/NAME/acc, .../acc_norm, .../examples                 acc, acc_norm, examples
//   sample                                                     (not there) generated text
//
// An event at a step has what one line of metrics.jsonl has, where it has it, and the time of day.
// Numbers are rounded to f32.
#ifndef STRAKE_TRAIN_TENSORBOARD_TENSORBOARD_LOG_H_
#define STRAKE_TRAIN_TENSORBOARD_TENSORBOARD_LOG_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/appended_file.h"
#include "train/run/train_observer.h"
#include "train/tensorboard/tensorboard_event.h"

namespace strake {

// The events of a run's file, to show or compare them. An error names the path and the first record
// that is cut or damaged.
absl::StatusOr<std::vector<TensorBoardEvent>> ReadTensorBoardEvents(const std::string& path);

// Sync() may be called on one thread while another logs.
class TensorBoardLog {
 public:
  // The file in OUT/tensorboard. TensorBoard reads what has "tfevents" in its name.
  static constexpr char kFileName[] = "events.out.tfevents.strake";

  // Makes the folder where it is missing, and cuts the file back to the events of steps up to the
  // start's, without the evaluation and the sample of that step if the run makes them next. What
  // stays are the events of a run that was never stopped. A record that a killed run left
  // unfinished is cut; other records that are damaged are moved to "damaged-records". Returns an
  // error that names the path; FailedPrecondition for a file with contents where the directory did
  // not hold the run.
  // CheckIsFree() is that error, before anything is written.
  static absl::Status CheckIsFree(const std::string& folder);
  static absl::StatusOr<TensorBoardLog> Open(const std::string& folder, const TrainStart& start);

  // What a person should know about the file as it was: damaged or missing events.
  const std::vector<std::string>& notes() const { return notes_; }

  // Each appends an event as AppendedFile does.
  absl::Status LogStep(const StepMetrics& metrics);
  absl::Status LogEval(const EvalMetrics& metrics);
  absl::Status LogTask(const TaskMetrics& metrics);
  absl::Status LogSample(const TrainSample& sample);

  // Flushes the file to disk: call it before writing a checkpoint that a run may resume from. After
  // an error it may be called again.
  absl::Status Sync() { return file_.Sync(); }

 private:
  TensorBoardLog(AppendedFile file, std::vector<std::string> notes);
  absl::Status Append(const TensorBoardEvent& event);

  AppendedFile file_;
  std::vector<std::string> notes_;
};

}  // namespace strake

#endif  // STRAKE_TRAIN_TENSORBOARD_TENSORBOARD_LOG_H_
