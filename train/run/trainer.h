// Trainer: a training run from its options to its last checkpoint, on one rank.
//
//   TrainerOptions options = {...};
//   return RunOnThreads(sizes, {}, [&](const Mesh& mesh) -> absl::Status {
//     MetricsObserver metrics;
//     STRAKE_ASSIGN_OR_RETURN(const auto trainer, Trainer::Create(options, mesh, {&metrics}));
//     return trainer->Run().status();
//   });
#ifndef STRAKE_TRAIN_RUN_TRAINER_H_
#define STRAKE_TRAIN_RUN_TRAINER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/op_profile.h"
#include "core/memory/first_touch.h"
#include "core/tensor/sequence_chunks.h"
#include "core/tensor/tensor_buffer.h"
#include "data/token_batch.h"
#include "parallel/mesh/mesh.h"
#include "train/engine/engine.h"
#include "train/run/carried_files.h"
#include "train/run/run_directory.h"
#include "train/run/run_record.h"
#include "train/run/run_saver.h"
#include "train/run/run_tokenizer.h"
#include "train/run/train_observer.h"
#include "train/run/trainer_options.h"
#include "train/run/training_data.h"
#include "train/trace/run_trace.h"

namespace strake {

struct RunStart;

// Every rank of the mesh makes one and runs it. The first rank alone writes the run's directory and
// calls its observers; all ranks read the checkpoint to resume from.
class Trainer {
 public:
  // Opens the data, checks all options, claims the directory, and restores the run's weights,
  // optimizer and data position. No file of an earlier run is changed before all checks have passed
  // on all ranks. `mesh` and the observers, which are called in their order, must outlive the
  // trainer. An error names options, files and values. Cancelled, on every rank, where
  // options.stop_requested() was true on any of them while text was prepared.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(const TrainerOptions& options,
                                                         const Mesh& mesh,
                                                         std::vector<TrainObserver*> observers);
  ~Trainer();

  // Trains until the last step, or until options.stop_requested() is true on any rank after a step,
  // between the batches of an evaluation or the tokens of a sample. Either way the last step done
  // is saved. Returns the same on every rank. Call it once.
  absl::StatusOr<TrainEnd> Run();

 private:
  Trainer(const TrainerOptions& options, const Mesh& mesh, std::vector<TrainObserver*> observers);

  bool is_first_rank() const { return mesh_.rank() == 0; }
  // Calls the observers, on the first rank; returns their first error.
  absl::Status Tell(absl::FunctionRef<absl::Status(TrainObserver&)> what) const;
  absl::Status Warn(const std::vector<std::string>& warnings) const;
  absl::Status TellWorkOf(const std::string& what, absl::FunctionRef<absl::Status()> work) const;
  OnWork WorkTeller() const;
  absl::Status ChooseDataRules();
  absl::Status OpenTokenizer();
  absl::Status PrepareText();
  absl::Status OpenData();
  absl::Status SetStepsOfEpochs();
  absl::Status CheckEpochs() const;
  absl::Status MakeEngine();
  absl::Status OpenRun();
  absl::Status VerifyFiles(const std::string& checkpoint) const;
  std::string NewestGoodInstead() const;
  absl::Status VerifyModel(const std::string& directory) const;
  absl::Status LoadModelWeights(ParameterArena& parameters) const;
  absl::Status LoadFirstAdapter(ParameterArena& adapters) const;
  absl::Status SetFirstWeights();
  absl::Status SetWeights(const std::string& checkpoint);
  absl::StatusOr<std::string> FrozenChecksum() const;
  absl::Status ReadCarried(const std::string& checkpoint);
  absl::Status WaitForMemory();
  absl::Status CompareFingerprint(const RunStart& start) const;
  absl::Status StartRun(const RunRecord& record);
  RunRecord Record() const;

  absl::Status CheckTracedSteps() const;
  absl::Status StartTrace();
  absl::Status WriteTrace(bool ended);
  OpProfile* profile() const { return engine_->context().profile(); }
  absl::Status Step();
  int64_t StepToMeasure() const;
  absl::Status MeasuredStep();
  double Mfu(double tokens_per_second) const;
  absl::Status StepAndWhatFollows();
  SequenceChunks chunks() const;
  int64_t local_seq_len() const;
  TokenBatch Batch(int64_t count) const;
  absl::Status AccumulateGradients();
  std::vector<double> SourceLosses() const;
  std::vector<SourceMetrics> SourceMetricsOf(const std::vector<double>& losses) const;
  absl::Status DoWhatIsDue();
  absl::Status Evaluate();
  absl::StatusOr<std::optional<TaskMetrics>> ScoreTask(const ChoiceTask& task);
  int64_t NumEvalSamples(const DataLoader& loader) const;
  absl::StatusOr<std::optional<EvalMetrics>> EvaluateOn(const ValidationData& validation);
  absl::Status Sample();
  absl::StatusOr<std::optional<TrainSample>> Generate();
  absl::StatusOr<TrainEnd> End(TrainEnd::Reason reason) const;
  bool StopRequested() const;
  bool IsDue(int64_t every) const;
  absl::Status NameStep(int64_t step, const absl::Status& status) const;

  TrainerOptions options_;
  const Mesh& mesh_;
  std::vector<TrainObserver*> observers_;         // on the first rank
  DataRules data_rules_ = DataRules::kDocuments;  // of the run to go on with, or of a new one
  RunTokenizer tokenizer_;         // on the first rank, and on all where there are tasks
  std::vector<ChoiceTask> tasks_;  // of multiple choice
  std::string data_label_;         // of the files as they were given
  bool prepared_ = false;          // whether training files were made of text
  std::unique_ptr<TrainingData> data_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<FirstTouch> first_touch_;  // of its memory, until the run starts
  std::unique_ptr<RunRecord> start_record_;  // of the run when it began
  std::optional<RunDirectory> directory_;    // on the first rank, until the run starts
  CarriedFiles carried_;                     // likewise

  TensorBuffer tokens_, targets_;  // one micro-batch, i32
  TensorBuffer positions_;         // likewise, where the data has documents

  int64_t step_ = 0;                 // done
  int64_t samples_ = 0;              // consumed
  int64_t measured_step_ = 0;        // whose ops observers are told of
  bool stop_ = false;                // agreed on by all ranks
  bool held_run_ = false;            // whether the directory did before; on the first rank
  std::vector<int64_t> damaged_;     // checkpoints that were passed over, on the first rank
  DueWork due_;                      // after the last step done
  std::unique_ptr<RunTrace> trace_;  // where steps are traced
  std::unique_ptr<RunSaver> saver_;  // last: it uses the other members
};

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_TRAINER_H_
