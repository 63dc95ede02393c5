// TrainObserver: receives the events of a Trainer's run (train/run/trainer.h).
//
// Each function is called on the first rank alone, while the other ranks may already be in the next
// step. An error ends the run with that error. In order:
//
//   OnPrepare                      many times, while text is prepared
//   OnPlan, OnStart                once, before the first step; between them
//   OnMemory                       many times a second, while the system provides memory
//   OnWork                         at any time before OnEnd, for what may take long
//   OnStep                         after each step;
//   OnOps                          once, after one of the first steps; then, where they are due,
//   OnEvaluation, OnTask,        once for each validation data, and for each task
//   OnSample
//   OnEnd                          once, where the run has not failed
//
// OnSave and OnCheckpoint come with each save: before OnEvaluation, or with async_save at any time
// after it began and before OnEnd. OnWarning and OnNote come at any time before the first step,
// the former also with a save, and either when a trace is written. All are called on the thread
// that runs the trainer, except OnSave with async_save.
#ifndef STRAKE_TRAIN_RUN_TRAIN_OBSERVER_H_
#define STRAKE_TRAIN_RUN_TRAIN_OBSERVER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "core/base/op_profile.h"
#include "core/base/work_state.h"

namespace strake {

class Communicator;
class Mesh;
class TrainingData;
struct MemoryPlan;
struct TrainerOptions;

// Parts of the trainer; they live until the trainer ends.
struct TrainPlan {
  const TrainerOptions& options;  // resolved
  const Mesh& mesh;
  const MemoryPlan& memory;  // of the first rank
  size_t snapshot_bytes;     // of its snapshots, beside that; 0: saves stop the run
  const TrainingData& data;
  // Why attention is slower than possible on this GPU; empty where it is not.
  const std::string& attention_note;
  // The groups of the first rank. They count its collectives; read that in OnStep alone.
  std::vector<const Communicator*> communicators = {};
  // The directory holds a run: this one or, which is an error later, another. Files of a run's
  // names are someone else's in one that does not.
  bool holds_run = false;
};

// Of text that becomes tokens before the run.
struct PrepareProgress {
  int64_t bytes_read = 0;
  int64_t bytes_in_all = 0;  // 0: not known
  int64_t tokens = 0;
};

struct TrainStart {
  std::string directory = {};
  int64_t step = 0;  // the last one done; 0 for a new run
  // The evaluation after that step comes next, perhaps once more: the run ended before it was
  // noted.
  bool evaluates = false;
  bool makes_sample = false;  // likewise, of the sample
  // Whether the directory held this run before: files of other names there may be someone else's.
  bool held_run = false;
};

// Of a source of the training data that a step has samples of.
struct SourceMetrics {
  std::string name = {};
  int64_t tokens = 0;   // of this step
  int64_t targets = 0;  // of them: the tokens whose prediction is learnt
  double loss = 0;      // the mean over targets; NaN where there is none
};

struct StepMetrics {
  int64_t step = 0;  // from 1
  // Mean over the targets of the global batch, before the update; NaN where there is none, which is
  // a step with gradients of 0.
  double loss = 0;
  double lr = 0;
  double grad_norm = 0;  // before clipping
  int64_t tokens = 0;    // of this step, padding included
  int64_t targets = 0;   // of them: the tokens whose prediction is learnt
  double seconds = 0;    // of this step
  double tokens_per_second = 0;
  double time = 0;   // of day at the step's end: seconds since 1970, UTC, to a millisecond
  double epoch = 0;  // samples seen until now over those of the training data, of all sources
  // Model FLOP utilisation, a share: TrainingFlopsPerToken() over TrainerOptions::peak_flops; 0
  // where that is not known.
  double mfu = 0;
  std::vector<SourceMetrics> sources = {};  // empty without sources
};

// The ops of one step on the first rank, with what they waited for.
struct StepOps {
  int64_t step = 0;
  double seconds = 0;  // of the step
  const OpProfile::Entries& ops;
};

struct EvalMetrics {
  int64_t step = 0;
  std::string name = {};  // of the validation data; "" where it has none
  double val_loss = 0;    // mean over the targets; NaN where there is none
  // Of its text; 0 where that is not known, and where it is val_loss / ln 2 of data without a name.
  double bits_per_byte = 0;
  int64_t num_samples = 0;  // sequences that were evaluated,
  int64_t all_samples = 0;  // out of this many
};

// Of a file of multiple-choice questions.
struct TaskMetrics {
  int64_t step = 0;
  std::string name = {};         // the file's, without its ending
  double acc = 0, acc_norm = 0;  // train/evaluation/choice_scores.h
  int64_t num_examples = 0;
};

// Text where the data is text, and token numbers otherwise.
struct TrainSample {
  int64_t step = 0;
  bool is_text = false;
  std::string prompt = {};  // from the validation data
  std::string continuation = {};
};

struct TrainCheckpoint {
  int64_t step = 0;
  std::string path = {};
  std::string fingerprint = {};  // of weights and optimizer: train/run/run_record.h
};

struct TrainEnd {
  enum class Reason { kLastStep, kStopRequested, kNothingToDo };
  Reason reason = Reason::kLastStep;
  int64_t step = 0;       // the last one done
  int64_t num_steps = 0;  // of the run
};

// The error of OnPlan() for what lies at a path of the observer's where no run is held.
inline absl::Status NotOfThisRun(const std::string& path) {
  return absl::FailedPreconditionError(path + " is there, and is not of this run; move it away");
}

class TrainObserver {
 public:
  virtual ~TrainObserver() = default;

  // One sentence: the options are legal, but probably not intended; or something failed that the
  // run can do without.
  virtual absl::Status OnWarning(const std::string& /*text*/) { return absl::OkStatus(); }
  // One sentence about what the run does that its options leave open.
  virtual absl::Status OnNote(const std::string& /*text*/) { return absl::OkStatus(); }
  // Text is being prepared; called some times a second, before OnPlan.
  virtual absl::Status OnPrepare(const PrepareProgress& /*progress*/) { return absl::OkStatus(); }
  // Data and memory are ready. Weights are initialized or read next, which takes a while for a
  // large model.
  virtual absl::Status OnPlan(const TrainPlan& /*plan*/) { return absl::OkStatus(); }
  // The system has provided so many bytes of the first rank's memory, of all.
  virtual absl::Status OnMemory(size_t /*done_bytes*/, size_t /*total_bytes*/) {
    return absl::OkStatus();
  }
  // Work that may take long begins, or goes on: data and weights that are read, checks, evaluations
  // and saves that stop the run. It may tell nothing more until it ends, with an empty `what`.
  virtual absl::Status OnWork(const WorkState& /*work*/) { return absl::OkStatus(); }
  // All checks have passed, and the directory is claimed.
  virtual absl::Status OnStart(const TrainStart& /*start*/) { return absl::OkStatus(); }
  virtual absl::Status OnStep(const StepMetrics& /*metrics*/) { return absl::OkStatus(); }
  virtual absl::Status OnOps(const StepOps& /*ops*/) { return absl::OkStatus(); }
  virtual absl::Status OnEvaluation(const EvalMetrics& /*metrics*/) { return absl::OkStatus(); }
  virtual absl::Status OnTask(const TaskMetrics& /*metrics*/) { return absl::OkStatus(); }
  virtual absl::Status OnSample(const TrainSample& /*sample*/) { return absl::OkStatus(); }
  // Called before a checkpoint, or a note of what was done after it, is complete: a run that
  // resumes from there relies on what observers have saved of the steps up to this one. With
  // async_save it is called on another thread, while other functions may be called, too.
  virtual absl::Status OnSave(int64_t /*step*/) { return absl::OkStatus(); }
  // Called when the checkpoint is complete and on disk.
  virtual absl::Status OnCheckpoint(const TrainCheckpoint& /*checkpoint*/) {
    return absl::OkStatus();
  }
  virtual absl::Status OnEnd(const TrainEnd& /*end*/) { return absl::OkStatus(); }
};

// Calls all observers in their order, up to the first error, which it returns.
inline absl::Status TellAll(const std::vector<TrainObserver*>& observers,
                            absl::FunctionRef<absl::Status(TrainObserver&)> what) {
  for (TrainObserver* const observer : observers) {
    const absl::Status told = what(*observer);
    if (!told.ok()) return told;
  }
  return absl::OkStatus();
}

// Tells all of them of work; without `what`, that it has ended.
inline absl::Status TellWork(const std::vector<TrainObserver*>& observers,
                             const WorkState& work = {}) {
  return TellAll(observers, [&](TrainObserver& observer) { return observer.OnWork(work); });
}

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_TRAIN_OBSERVER_H_
