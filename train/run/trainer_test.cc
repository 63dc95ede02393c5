#include "train/run/trainer.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <latch>
#include <map>
#include <mutex>
#include <numbers>
#include <regex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/file_descriptor.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/testing/temp_directory.h"
#include "data/document_index.h"
#include "data/target_ranges.h"
#include "data/token_batch.h"
#include "data/token_file.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "data/tokenizer/formats/tokenizer_json_writer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/families/families.h"
#include "models/lora_config.h"
#include "nlohmann/json.hpp"
#include "parallel/context/context_parallel.h"
#include "parallel/mesh/run_on_threads.h"
#include "train/plan/memory_plan.h"
#include "train/run/manifest.h"
#include "train/run/metrics_observer.h"
#include "train/run/run_record.h"
#include "train/run/run_tokenizer.h"
#include "train/run/training_data.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;
using ::testing::Pair;
using testing::ReadFile;
using testing::TempDirectory;
using testing::WriteFile;

constexpr MeshVector kOneRank = {1, 1, 1, 1};
constexpr MeshVector kDp2 = {.dp = 2, .pp = 1, .cp = 1, .tp = 1};
constexpr MeshVector kTp2 = {.dp = 1, .pp = 1, .cp = 1, .tp = 2};
constexpr MeshVector kCp2 = {.dp = 1, .pp = 1, .cp = 2, .tp = 1};
constexpr MeshVector kDp2Cp2 = {.dp = 2, .pp = 1, .cp = 2, .tp = 1};

ModelConfig TinyModel() {
  ModelConfig model = *ModelPreset("llama-tiny");
  model.num_layers = 1;
  model.hidden_size = 16;
  model.num_heads = model.num_kv_heads = 2;
  model.head_dim = 8;
  model.intermediate_size = 32;
  return model;
}

// Four steps of four sequences of eight bytes.
class TrainerTest : public ::testing::Test {
 protected:
  TrainerTest() {
    std::string text;
    for (int i = 0; i < 100; ++i) text += "plank " + std::to_string(i * i) + " of the hull\n";
    WriteFile(directory_ / "text.txt", text);
    options_.engine = {.model = TinyModel(), .seq_len = 8, .micro_batch = 2};
    options_.train_files = {directory_ / "text.txt"};
    options_.global_batch = 4;
    options_.schedule = {.lr = 0.01, .warmup_steps = 1, .total_steps = 4};
    options_.directory = directory_ / "run";
    options_.eval_every = options_.sample_every = options_.save_every = 0;
  }

  absl::Status Train(const MeshVector& sizes, const std::vector<TrainObserver*>& observers) const {
    return RunOnThreads(sizes, {}, [&](const Mesh& mesh) -> absl::Status {
      STRAKE_ASSIGN_OR_RETURN(const auto trainer, Trainer::Create(options_, mesh, observers));
      return trainer->Run().status();
    });
  }
  std::string ErrorOf(const MeshVector& sizes = kOneRank) const {
    return std::string(Train(sizes, {}).message());
  }

  // Seven questions of three choices.
  void UseQuestions() {
    std::string questions;
    for (int i = 0; i < 7; ++i) {
      absl::StrAppend(&questions, R"({"context": "p)", i % 3, R"(", "choices": ["of", "hul", "l)",
                      i, R"("], "answer": )", i % 3, "}\n");
    }
    WriteFile(directory_ / "hulls.jsonl", questions);
    options_.eval_tasks = {directory_ / "hulls.jsonl"};
  }

  const TempDirectory directory_;
  TrainerOptions options_;
};

// Records the calls, and fails at the first that begins with `fail_at`.
class Recorder : public TrainObserver {
 public:
  absl::Status OnWarning(const std::string& text) override { return Note("warning " + text); }
  absl::Status OnNote(const std::string& text) override { return Note("note " + text); }
  absl::Status OnPlan(const TrainPlan& plan) override {
    EXPECT_GT(plan.memory.total_bytes(), 0);
    return Note(absl::StrCat("plan of ", plan.mesh.num_ranks()));
  }
  absl::Status OnStart(const TrainStart& start) override {
    return Note(absl::StrCat("start ", start.step));
  }
  absl::Status OnStep(const StepMetrics& m) override {
    losses.push_back(m.loss);
    norms.push_back(m.grad_norm);
    EXPECT_EQ(m.grad_norm > 0, m.targets > 0);
    EXPECT_GT(m.seconds, 0);
    EXPECT_EQ(m.tokens, step_tokens);
    return Note(absl::StrCat("step ", m.step));
  }
  absl::Status OnEvaluation(const EvalMetrics& m) override {
    if (!losses.empty()) {
      EXPECT_NEAR(m.val_loss, losses.back(), 1);
    }
    EXPECT_LE(m.num_samples, m.all_samples);
    EXPECT_NEAR(m.bits_per_byte, m.name.empty() ? 0 : m.val_loss / 0.693147, 1e-4);
    const std::string name = m.name.empty() ? "" : " " + m.name;
    return Note(absl::StrCat("evaluation ", m.step, name, " of ", m.num_samples));
  }
  absl::Status OnSample(const TrainSample& sample) override {
    EXPECT_TRUE(sample.is_text);
    EXPECT_NE(sample.prompt, "");
    EXPECT_NE(sample.continuation, "");
    return Note(absl::StrCat("sample ", sample.step));
  }
  absl::Status OnSave(int64_t step) override { return Note(absl::StrCat("save ", step)); }
  absl::Status OnCheckpoint(const TrainCheckpoint& checkpoint) override {
    EXPECT_TRUE(std::filesystem::exists(checkpoint.path + "/model.safetensors"));
    EXPECT_EQ(checkpoint.fingerprint.size(), 32);
    EXPECT_EQ(ReadRunRecord(checkpoint.path)->fingerprint, checkpoint.fingerprint);
    return Note(absl::StrCat("checkpoint ", checkpoint.step));
  }
  absl::Status OnEnd(const TrainEnd& end) override {
    const bool stopped = end.reason == TrainEnd::Reason::kStopRequested;
    const bool nothing = end.reason == TrainEnd::Reason::kNothingToDo;
    return Note(absl::StrCat(stopped   ? "stopped"
                             : nothing ? "nothing to do"
                                       : "end",
                             " ", end.step, "/", end.num_steps));
  }

  std::vector<std::string> notes;
  std::vector<double> losses, norms;
  std::string fail_at = "never";
  int64_t step_tokens = 32;

 private:
  absl::Status Note(const std::string& note) {
    const std::lock_guard<std::mutex> lock(mutex_);
    notes.push_back(note);
    if (note.rfind(fail_at, 0) != 0) return absl::OkStatus();
    return absl::UnavailableError("the observer has had enough");
  }

  std::mutex mutex_;  // OnSave() comes on another thread
};

TEST_F(TrainerTest, TellsInOrder) {
  options_.async_save = false;
  options_.eval_every = options_.save_every = 2;
  options_.eval_batches = 1;
  options_.sample_every = 4;
  Recorder recorder;
  const absl::Status trained = Train(kOneRank, {&recorder});
  ASSERT_TRUE(trained.ok()) << trained;
  EXPECT_THAT(recorder.notes,
              ElementsAre("plan of 1", "start 0", "step 1", "step 2", "save 2", "checkpoint 2",
                          "evaluation 2 of 2", "save 2", "step 3", "step 4", "save 4",
                          "checkpoint 4", "evaluation 4 of 2", "sample 4", "save 4", "end 4/4"));
  EXPECT_LT(recorder.losses.back(), recorder.losses.front());
  EXPECT_FALSE(std::filesystem::exists(options_.directory + "/metrics.jsonl"));
}

TEST_F(TrainerTest, TellsOfWhatIsResumed) {
  Recorder first, again, longer;
  ASSERT_TRUE(Train(kOneRank, {&first}).ok());
  ASSERT_TRUE(Train(kOneRank, {&again}).ok());
  EXPECT_THAT(again.notes, ElementsAre("plan of 1", "start 4", "nothing to do 4/4"));
  options_.schedule.total_steps = 5;
  ASSERT_TRUE(Train(kOneRank, {&longer}).ok());
  EXPECT_THAT(longer.notes,
              ElementsAre("plan of 1",
                          "warning steps was 4 and is 5: the learning rates of the remaining steps "
                          "are recomputed",
                          "start 4", "step 5", "save 5", "checkpoint 5", "end 5/5"));
}

TEST_F(TrainerTest, TwoRanksAreOneRun) {
  Recorder one;
  ASSERT_TRUE(Train(kOneRank, {&one}).ok());
  for (const MeshVector& sizes : {kDp2, kTp2, kCp2}) {
    options_.directory += "x";
    Recorder recorder;
    MetricsObserver metrics;
    const absl::Status trained = Train(sizes, {&recorder, &metrics});
    ASSERT_TRUE(trained.ok()) << trained;
    EXPECT_THAT(recorder.notes, ElementsAre("plan of 2", "start 0", "step 1", "step 2", "step 3",
                                            "step 4", "save 4", "checkpoint 4", "end 4/4"));
    // f32 roundings in another order, which four small steps hardly amplify.
    for (int i = 0; i < 4; ++i) EXPECT_NEAR(recorder.losses[i], one.losses[i], 1e-3);
    EXPECT_THAT(ReadFile(options_.directory + "/metrics.jsonl"),
                HasSubstr("{\"step\":4,\"loss\":"));
  }
}

// Stages train one rank's model, and one rank goes on with their run, and they with its.
TEST_F(TrainerTest, StagesAreOneRun) {
  constexpr MeshVector kStages = {.dp = 1, .pp = 2, .cp = 1, .tp = 1};
  options_.engine.model.num_layers = 2;
  options_.global_batch = 8;
  options_.eval_every = 2;
  Recorder one;
  one.step_tokens = 64;
  ASSERT_TRUE(Train(kOneRank, {&one}).ok());
  for (const PipelineKind kind : {PipelineKind::k1f1b, PipelineKind::kZeroBubble}) {
    options_.engine.pipeline.kind = kind;
    options_.directory += "x";
    Recorder recorder;
    recorder.step_tokens = one.step_tokens;
    for (const auto& [steps, sizes] : {std::pair(2, kStages), {3, kOneRank}, {4, kStages}}) {
      options_.schedule.total_steps = steps;
      const absl::Status trained = Train(sizes, {&recorder});
      ASSERT_TRUE(trained.ok()) << trained;
    }
    ASSERT_EQ(recorder.losses.size(), 4);
    // The rates of later steps depend on their number.
    for (int i = 0; i < 2; ++i) EXPECT_NEAR(recorder.losses[i], one.losses[i], 1e-5);
    EXPECT_THAT(recorder.notes, Contains("end 4/4"));
  }
  options_.engine.model.num_layers = 1;
  EXPECT_THAT(ErrorOf(kStages), HasSubstr("1 layer"));
}

// What a run tells of its model, in full.
struct ResultsRecorder : TrainObserver {
  absl::Status OnEvaluation(const EvalMetrics& m) override {
    losses.push_back(m.val_loss);
    return absl::OkStatus();
  }
  absl::Status OnTask(const TaskMetrics& m) override {
    return Note(absl::StrCat(m.name, " ", m.acc, " ", m.acc_norm, " of ", m.num_examples));
  }
  absl::Status OnSample(const TrainSample& sample) override {
    return Note(absl::StrCat(sample.prompt, "|", sample.continuation));
  }
  absl::Status Note(std::string note) {
    notes.push_back(std::move(note));
    return absl::OkStatus();
  }
  std::vector<std::string> notes;
  std::vector<double> losses;
};

// Context-parallel ranks train one rank's model beside every other axis, and one rank goes on with
// their run, and they with its. Their evaluation has one rank's loss.
TEST_F(TrainerTest, RanksThatShareSequencesAreOneRun) {
  options_.engine.model.num_layers = 2;
  options_.engine.model.tie_word_embeddings = false;
  options_.eval_every = 2;
  options_.schedule = {.kind = ScheduleKind::kConstant, .lr = 0.01, .warmup_steps = 1};
  const auto train = [&](const MeshVector& sizes, int64_t steps, Recorder* recorder,
                         ResultsRecorder* results) {
    options_.schedule.total_steps = steps;
    const absl::Status trained = Train(sizes, {recorder, results});
    EXPECT_TRUE(trained.ok()) << trained;
  };
  Recorder one;
  ResultsRecorder of_one;
  train(kOneRank, 4, &one, &of_one);
  for (const MeshVector& sizes : {kCp2, kDp2Cp2, MeshVector{.dp = 1, .pp = 1, .cp = 4, .tp = 1},
                                  MeshVector{.dp = 1, .pp = 2, .cp = 2, .tp = 1},
                                  MeshVector{.dp = 1, .pp = 1, .cp = 2, .tp = 2}}) {
    for (const int zero : {0, 1, 2}) {
      SCOPED_TRACE(absl::StrCat(sizes.ToString(), ", zero ", zero));
      options_.engine.gradients = {.zero = zero, .bucket_bytes = 4096};
      options_.engine.context_comm = zero == 1 ? ContextComm::kAllGather : ContextComm::kRing;
      options_.engine.micro_batch = sizes.pp > 1 ? 1 : 2;
      options_.directory += "x";
      Recorder recorder;
      ResultsRecorder results;
      train(sizes, 2, &recorder, &results);
      // A resumed run compares the fingerprint of the state.
      options_.engine.gradients.zero = 0;
      train(kOneRank, 3, &recorder, &results);
      options_.engine.gradients.zero = zero;
      train(sizes, 4, &recorder, &results);
      ASSERT_EQ(recorder.losses.size(), 4);
      // f32 roundings in another order, which four small steps hardly amplify. The loss of other
      // tokens is off by much more.
      for (int i = 0; i < 4; ++i) {
        EXPECT_NEAR(recorder.losses[i], one.losses[i], 1e-4) << i;
        EXPECT_NEAR(recorder.norms[i], one.norms[i], 1e-3 * one.norms[i]) << i;
      }
      ASSERT_EQ(results.losses.size(), 3) << "after steps 2, 3 and 4";
      EXPECT_NEAR(results.losses.front(), of_one.losses.front(), 1e-4);
      EXPECT_NEAR(results.losses.back(), of_one.losses.back(), 1e-4);
    }
  }
}

TEST_F(TrainerTest, RanksThatShareSequencesMustDivideThem) {
  options_.engine.seq_len = 10;
  EXPECT_EQ(ErrorOf({.dp = 1, .pp = 1, .cp = 4, .tp = 1}),
            "the sequence length 10 is not a multiple of 8, twice the 4 context-parallel ranks: "
            "take 8 or 16");
}

// Ranks that share sequences answer questions by themselves, and generate alike.
TEST_F(TrainerTest, RanksThatShareSequencesScoreAndGenerateWholeOnes) {
  UseQuestions();
  options_.eval_every = options_.sample_every = 4;
  std::vector<std::string> expected;
  for (const MeshVector& sizes : {kOneRank, kCp2, kDp2Cp2}) {
    options_.directory += "x";
    ResultsRecorder recorder;
    const absl::Status trained = Train(sizes, {&recorder});
    ASSERT_TRUE(trained.ok()) << trained;
    if (expected.empty()) expected = recorder.notes;
    ASSERT_EQ(recorder.notes.size(), 2);
    EXPECT_EQ(recorder.notes[0], expected[0]) << "no two choices are as close as roundings";
    EXPECT_THAT(recorder.notes[1], HasSubstr("|"));
  }
}

TEST_F(TrainerTest, StagesTellTheSamplesAndAccuraciesOfOne) {
  UseQuestions();
  options_.eval_every = options_.sample_every = 2;
  options_.engine.model.num_layers = 4;
  options_.engine.model.tie_word_embeddings = false;
  options_.global_batch = 8;
  std::map<int, ResultsRecorder> of_one_stage;  // by tensor-parallel ranks
  for (const MeshVector& sizes : {MeshVector{.dp = 1, .pp = 1, .cp = 1, .tp = 1},
                                  {.dp = 1, .pp = 1, .cp = 1, .tp = 2},
                                  {.dp = 1, .pp = 2, .cp = 1, .tp = 1},
                                  {.dp = 1, .pp = 4, .cp = 1, .tp = 1},
                                  {.dp = 1, .pp = 2, .cp = 1, .tp = 2}}) {
    for (const int chunks : {1, 2}) {
      if (chunks > 1 && sizes.pp != 2) continue;
      SCOPED_TRACE(absl::StrCat(sizes.ToString(), ", chunks ", chunks));
      options_.engine.pipeline.chunks = chunks;
      options_.engine.pipeline.kind = chunks > 1 ? PipelineKind::kInterleaved : PipelineKind::k1f1b;
      options_.directory += "x";
      ResultsRecorder recorder;
      const absl::Status trained = Train(sizes, {&recorder});
      ASSERT_TRUE(trained.ok()) << trained;
      ASSERT_EQ(recorder.notes.size(), 2 * 2);
      EXPECT_NE(recorder.notes[1], recorder.notes[3]) << "samples of other weights";
      const ResultsRecorder& expected = of_one_stage.try_emplace(sizes.tp, recorder).first->second;
      EXPECT_EQ(recorder.notes, expected.notes);
      EXPECT_EQ(recorder.losses, expected.losses);
    }
  }
}

TEST_F(TrainerTest, AnObserversErrorEndsTheRun) {
  for (const MeshVector& sizes : {kOneRank, kDp2}) {
    for (const char* moment : {"plan", "start", "step 3", "save", "checkpoint", "end"}) {
      options_.directory += "x";
      Recorder recorder, later;
      recorder.fail_at = moment;
      const absl::Status status = Train(sizes, {&recorder, &later});
      EXPECT_EQ(status.message(), "the observer has had enough") << moment;
      EXPECT_THAT(recorder.notes.back(), HasSubstr(moment));
      EXPECT_EQ(later.notes.size(), recorder.notes.size() - 1) << "told before the error";
    }
  }
}

TEST_F(TrainerTest, StopsWhereItIsAskedTo) {
  Recorder recorder;
  // A step asks before observers are told of it: the second is the last.
  options_.stop_requested = [&recorder] { return !recorder.losses.empty(); };
  ASSERT_TRUE(Train(kOneRank, {&recorder}).ok());
  EXPECT_THAT(recorder.notes, ElementsAre("plan of 1", "start 0", "step 1", "step 2", "save 2",
                                          "checkpoint 2", "stopped 2/4"));
}

// The lines of the log without their times.
// Records what work begins, and "" where it ends; and the steps.
struct WorkRecorder : TrainObserver {
  absl::Status OnWork(const WorkState& work) override {
    if (work.total > 0) {
      EXPECT_LE(work.done, work.total) << work.what;
      amounts[work.what] = {work.done, work.total};
    }
    if (works.empty() || works.back() != work.what) works.push_back(work.what);
    return absl::OkStatus();
  }
  absl::Status OnStep(const StepMetrics& m) override {
    steps.push_back(m);
    return absl::OkStatus();
  }
  std::vector<std::string> works;
  std::map<std::string, std::pair<double, double>> amounts;  // told last: done, of all
  std::vector<StepMetrics> steps;
};

TEST_F(TrainerTest, TellsOfWorkThatMayTakeLong) {
  options_.eval_every = options_.sample_every = 4;
  options_.async_save = false;
  for (const MeshVector& sizes : {kOneRank, kDp2}) {
    options_.directory = directory_ / absl::StrCat("run", sizes.dp);
    WorkRecorder first, second;
    ASSERT_TRUE(Train(sizes, {&first}).ok());
    EXPECT_THAT(first.works, IsSupersetOf({"scanning tokens", "identifying the tokens",
                                           "making weights", "comparing weights", "validating",
                                           "generating a sample", "writing a checkpoint"}));
    EXPECT_EQ(first.works.back(), "") << "all work ends";
    options_.schedule.total_steps = 5;
    ASSERT_TRUE(Train(sizes, {&second}).ok());
    EXPECT_THAT(second.works, Contains("reading weights"));
    options_.schedule.total_steps = 4;
  }
}

struct OpsRecorder : TrainObserver {
  absl::Status OnOps(const StepOps& ops) override {
    steps.push_back(ops.step);
    double sum = 0;
    for (const auto& [key, entry] : ops.ops) {
      names.insert(key.first);
      sum += entry.seconds;
    }
    EXPECT_GT(sum, 0);
    EXPECT_LE(sum, ops.seconds);
    return absl::OkStatus();
  }
  std::vector<int64_t> steps;
  std::set<std::string> names;
};

TEST_F(TrainerTest, MeasuresTheOpsOfOneStepThatIsNotTraced) {
  const auto steps_of = [&](int64_t first_traced, int64_t last_traced, int64_t num_steps) {
    options_.directory = directory_ / absl::StrCat(first_traced, last_traced, num_steps);
    options_.first_traced_step = first_traced;
    options_.last_traced_step = last_traced;
    options_.schedule.total_steps = num_steps;
    OpsRecorder recorder;
    EXPECT_TRUE(Train(kDp2, {&recorder}).ok());
    if (!recorder.steps.empty()) {
      EXPECT_THAT(recorder.names, IsSupersetOf({"matmul", "adamw", "causal_attention"}));
    }
    return recorder.steps;
  };
  EXPECT_THAT(steps_of(0, 0, 4), ElementsAre(2));
  EXPECT_THAT(steps_of(0, 0, 1), ElementsAre(1));
  EXPECT_THAT(steps_of(2, 3, 4), ElementsAre(4));
  EXPECT_THAT(steps_of(1, 4, 4), ElementsAre());
}

TEST_F(TrainerTest, TellsHowMuchIsReadAndWritten) {
  const double bytes = 4.0 * static_cast<double>(NumParameters(options_.engine.model));
  for (const bool async : {false, true}) {
    options_.async_save = async;
    options_.directory = directory_ / absl::StrCat("run", async);
    WorkRecorder first, second;
    ASSERT_TRUE(Train(kOneRank, {&first}).ok());
    if (!async) {
      const auto [written, in_all] = first.amounts["writing a checkpoint"];
      EXPECT_EQ(in_all, 3 * bytes) << "weights and two moments";
      EXPECT_GT(written, 2 * bytes);
    }
    options_.schedule.total_steps = 5;
    ASSERT_TRUE(Train(kOneRank, {&second}).ok());
    EXPECT_GT(second.amounts["checking files"].second, 3 * bytes) << "with headers";
    EXPECT_EQ(second.amounts["reading weights"], std::pair(bytes, bytes));
    EXPECT_EQ(second.amounts["reading the optimizer's state"], std::pair(2 * bytes, 2 * bytes));
    options_.schedule.total_steps = 4;
  }
}

TEST_F(TrainerTest, UtilisationIsAShareOfThePeak) {
  WorkRecorder unknown, known;
  ASSERT_TRUE(Train(kOneRank, {&unknown}).ok());
  for (const StepMetrics& m : unknown.steps) EXPECT_EQ(m.mfu, 0);
  options_.directory = directory_ / "known";
  options_.peak_flops = 1e9;
  ASSERT_TRUE(Train(kOneRank, {&known}).ok());
  const double flops = TrainingFlopsPerToken(options_.engine.model, 8);
  for (const StepMetrics& m : known.steps) {
    EXPECT_NEAR(m.mfu, flops * m.tokens_per_second / 1e9, 1e-9 * m.mfu);
  }
}

// Steps are as many as --epochs asks for, rounded up; sources count with all their samples.
TEST_F(TrainerTest, EpochsAreOfAllTrainingData) {
  WriteFile(directory_ / "more.txt", std::string(999, 'x'));
  options_.epochs = 0.5;
  for (const bool has_sources : {false, true}) {
    options_.directory = directory_ / absl::StrCat("run", has_sources);
    if (has_sources) {
      options_.train_sources = {{"a", options_.train_files, 0.75},
                                {"b", {directory_ / "more.txt"}, 0.25}};
      options_.train_files = {};
    }
    WorkRecorder recorder;
    ASSERT_TRUE(Train(kOneRank, {&recorder}).ok());
    const double each = recorder.steps[0].epoch;
    EXPECT_GT(each, 0);
    EXPECT_NEAR(recorder.steps.back().epoch, each * recorder.steps.size(), 1e-9);
    EXPECT_GE(recorder.steps.back().epoch, 0.5);
    EXPECT_LT(recorder.steps.back().epoch, 0.5 + each);
    EXPECT_GE(recorder.steps.back().time, recorder.steps[0].time);
  }
}

std::string TimelessLog(const std::string& directory) {
  const std::regex times(",\"seconds\":.*");
  return std::regex_replace(ReadFile(directory + "/metrics.jsonl"), times, "}");
}

TEST_F(TrainerTest, AStopAtAnyMomentLosesNothing) {
  options_.eval_every = options_.sample_every = 2;
  options_.eval_batches = 3;
  options_.save_every = 4;
  options_.schedule.total_steps = 6;
  for (const MeshVector& sizes : {kOneRank, kDp2, kTp2}) {
    std::atomic<int64_t> num_moments = 0;
    options_.stop_requested = [&] { return ++num_moments < 0; };
    options_.directory = directory_ / absl::StrCat("whole", sizes.dp, sizes.tp);
    MetricsObserver metrics;
    ASSERT_TRUE(Train(sizes, {&metrics}).ok());
    const std::string whole = options_.directory;
    // With two ranks, the moments of their questions differ from run to run.
    int64_t num_interrupted = 0;
    for (int64_t moment = 1; moment <= num_moments; moment += sizes.dp * sizes.tp) {
      options_.directory = directory_ / absl::StrCat("stopped", sizes.dp, sizes.tp, "-", moment);
      std::atomic<int64_t> questions = 0;
      options_.stop_requested = [&] { return ++questions >= moment; };
      Recorder before, after;
      MetricsObserver first, second;
      ASSERT_TRUE(Train(sizes, {&first, &before}).ok());
      const bool stopped = before.notes.back().rfind("stopped", 0) == 0;
      std::string saved = "0";
      for (const std::string& note : before.notes) {
        if (note.rfind("checkpoint ", 0) == 0) saved = note.substr(11);
      }
      EXPECT_THAT(before.notes.back(), HasSubstr(" " + saved + "/6")) << "not saved";
      options_.stop_requested = nullptr;
      ASSERT_TRUE(Train(sizes, {&second, &after}).ok());
      num_interrupted += stopped;
      EXPECT_EQ(TimelessLog(options_.directory), TimelessLog(whole)) << moment;
      for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
        EXPECT_TRUE(ReadFile(absl::StrCat(options_.directory, "/step-6/", file)) ==
                    ReadFile(absl::StrCat(whole, "/step-6/", file)))
            << file << ", stopped at question " << moment;
      }
      // An evaluation or sample that was interrupted was not told of.
      for (const char* told : {"evaluation 2", "evaluation 6", "sample 2", "sample 6"}) {
        int64_t times = 0;
        for (const Recorder* recorder : {&before, &after}) {
          for (const std::string& note : recorder->notes) times += note.rfind(told, 0) == 0;
        }
        EXPECT_EQ(times, 1) << told << ", stopped at question " << moment;
      }
    }
    EXPECT_GT(num_interrupted, 15);
  }
}

// Does not let the save of a step be written before Opens is told of another step.
class SlowDisk : public TrainObserver {
 public:
  explicit SlowDisk(int64_t saved_step) : saved_step_(saved_step) {}
  absl::Status OnSave(int64_t step) override {
    if (step == saved_step_) done_.wait();
    return absl::OkStatus();
  }
  void Open() { done_.count_down(); }

 private:
  const int64_t saved_step_;
  std::latch done_{1};
};

class Opens : public TrainObserver {
 public:
  Opens(SlowDisk* disk, int64_t step) : disk_(disk), step_(step) {}
  absl::Status OnStep(const StepMetrics& m) override {
    if (m.step == step_) disk_->Open();
    return absl::OkStatus();
  }

 private:
  SlowDisk* const disk_;
  const int64_t step_;
};

TEST_F(TrainerTest, StepsGoOnWhileACheckpointIsWritten) {
  options_.save_every = 2;
  options_.async_save = false;
  ASSERT_TRUE(Train(kOneRank, {}).ok());
  const std::string whole = options_.directory;
  options_.async_save = true;
  for (const MeshVector& sizes : {kOneRank, kDp2, kTp2}) {
    options_.directory += "x";
    if (sizes.dp * sizes.tp > 1) options_.engine.gradients.zero = sizes.dp - 1;
    SlowDisk disk(2);
    Opens after(&disk, 4);
    Recorder recorder;
    MetricsObserver metrics;
    const absl::Status trained = Train(sizes, {&metrics, &disk, &recorder, &after});
    ASSERT_TRUE(trained.ok()) << trained;
    EXPECT_THAT(recorder.notes,
                ElementsAre(HasSubstr("plan of"), "start 0", "step 1", "step 2", "step 3", "step 4",
                            "save 2", "checkpoint 2", "save 4", "checkpoint 4", "end 4/4"));
    if (sizes.dp * sizes.tp > 1) continue;
    // The weights are those of the second step.
    for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
      for (const char* step : {"/step-2/", "/step-4/"}) {
        EXPECT_TRUE(ReadFile(absl::StrCat(options_.directory, step, file)) ==
                    ReadFile(absl::StrCat(whole, step, file)))
            << step << file;
      }
    }
  }
}

// Names and contents of a checkpoint's files.
std::map<std::string, std::string> FilesOf(const std::string& checkpoint) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(checkpoint)) {
    if (entry.is_directory()) continue;
    files[entry.path().lexically_relative(checkpoint)] = ReadFile(entry.path());
  }
  return files;
}

TEST_F(TrainerTest, CheckpointsCarryTheOriginalsFiles) {
  ASSERT_TRUE(Train(kOneRank, {}).ok());
  const std::string original = directory_ / "original";
  std::filesystem::rename(options_.directory + "/step-4", original);
  for (const char* name : {"/manifest.json", "/tokenizer_config.json"}) {
    std::filesystem::remove(original + name);  // as another program's
  }
  const std::map<std::string, std::string> carried = {{"tokenizer.json", "{\"\0\xff\": 1}\r\n"},
                                                      {"chat_template.jinja", "{{ x }}"},
                                                      {"additional_chat_templates/a.jinja", "{}"},
                                                      {"LICENSE", ""}};
  std::filesystem::create_directory(original + "/additional_chat_templates");
  for (const auto& [name, text] : carried) WriteFile(original + "/" + name, text);
  WriteFile(original + "/pytorch_model.bin", "weights");
  options_.init_from = original;
  options_.save_every = 2;
  for (const bool async_save : {false, true}) {
    options_.async_save = async_save;
    for (const MeshVector& sizes : {kOneRank, kDp2, kTp2}) {
      options_.directory += "x";
      options_.schedule.total_steps = 4;
      ASSERT_TRUE(Train(sizes, {}).ok());
      // The original may be gone, and the checkpoint elsewhere.
      std::filesystem::rename(original, original + ".away");
      options_.schedule.total_steps = 6;
      ASSERT_TRUE(Train(sizes, {}).ok());
      std::filesystem::rename(original + ".away", original);
      for (const char* step : {"/step-2", "/step-4", "/step-6"}) {
        const std::string checkpoint = options_.directory + step;
        auto files = FilesOf(checkpoint);
        for (const auto& [name, text] : carried) {
          ASSERT_TRUE(files.contains(name)) << checkpoint << name;
          EXPECT_EQ(files[name], text);
          files.erase(name);
        }
        EXPECT_EQ(files.size(), 5) << checkpoint;
        EXPECT_TRUE(VerifyCheckpoint(checkpoint).ok());
      }
    }
  }
  const std::string path = options_.directory + "/step-6/tokenizer.json";
  WriteFile(path, "{\"other\": 1}");
  EXPECT_THAT(ErrorOf(kTp2), HasSubstr(path));
}

// A base of other programs, "base", and options of adapters beside it.
class LoraTrainerTest : public TrainerTest {
 protected:
  LoraTrainerTest() {
    base_ = MakeBase("base", /*seed=*/5);
    options_.engine.model.lora = {.rank = 2, .alpha = 4};
    options_.init_from = base_;
    options_.save_every = 2;
    options_.keep_last = 0;
  }

  std::string MakeBase(const std::string& name, int64_t seed) {
    const TrainerOptions before = options_;
    options_.engine.model.lora = {};
    options_.init_from = options_.init_adapter = "";
    options_.seed = seed;
    options_.directory = directory_ / (name + ".run");
    const absl::Status trained = Train(kOneRank, {});
    EXPECT_TRUE(trained.ok()) << trained;
    const std::string base = directory_ / name;
    std::filesystem::rename(options_.directory + "/step-4", base);
    for (const char* file : {"/manifest.json", "/run.json", "/optimizer.safetensors"}) {
      std::filesystem::remove(base + file);
    }
    options_ = before;
    return base;
  }
  void ExpectTrains(const MeshVector& sizes = kOneRank) const {
    const absl::Status trained = Train(sizes, {});
    EXPECT_TRUE(trained.ok()) << trained;
  }
  std::string Step(int step) const { return absl::StrCat(options_.directory, "/step-", step); }

  std::string base_;
};

TEST_F(LoraTrainerTest, CheckpointsAreAdapters) {
  const std::string weights = ReadFile(base_ + "/model.safetensors");
  for (const bool async_save : {false, true}) {
    options_.async_save = async_save;
    for (const MeshVector& sizes : {kOneRank, kDp2, kTp2}) {
      options_.directory += "x";
      ExpectTrains(sizes);
      const auto files = FilesOf(Step(4));
      EXPECT_EQ(files.count("model.safetensors"), 0);
      EXPECT_EQ(files.count("config.json"), 0);
      EXPECT_EQ(files.count("adapter_model.safetensors"), 1);
      EXPECT_EQ(files.count("tokenizer.json"), 1);
      EXPECT_TRUE(VerifyCheckpoint(Step(4)).ok());
      const auto config = nlohmann::json::parse(files.at("adapter_config.json"));
      EXPECT_EQ(config.at("base_model_name_or_path"), base_);
      EXPECT_EQ(config.at("r"), 2);
      EXPECT_EQ(config.at("lora_alpha"), 4);
      EXPECT_EQ(config.at("target_modules").size(), 7);
      EXPECT_NE(files.at("adapter_model.safetensors"),
                ReadFile(Step(2) + "/adapter_model.safetensors"));
    }
  }
  EXPECT_TRUE(ReadFile(base_ + "/model.safetensors") == weights) << "the base has changed";
}

TEST_F(LoraTrainerTest, GoesOnBitForBit) {
  for (const MeshVector& sizes : {kOneRank, kDp2, kTp2}) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      options_.engine.dtype = dtype;
      options_.directory += "x";
      ExpectTrains(sizes);
      const auto whole = FilesOf(Step(4));
      std::filesystem::remove_all(Step(4));
      ExpectTrains(sizes);
      // Not EXPECT_EQ of the maps: it would print the weights.
      EXPECT_TRUE(FilesOf(Step(4)) == whole) << options_.directory;
    }
  }
}

TEST_F(LoraTrainerTest, AnotherBaseIsAnotherRun) {
  ExpectTrains();
  std::filesystem::remove_all(Step(4));
  const std::string moved = directory_ / "moved";
  std::filesystem::rename(base_, moved);
  EXPECT_THAT(ErrorOf(), HasSubstr(base_));
  // Where it lies does not matter, what it holds does.
  options_.init_from = moved;
  Recorder recorder;
  recorder.fail_at = "step 4";
  EXPECT_EQ(Train(kOneRank, {&recorder}).message(), "the observer has had enough");
  EXPECT_THAT(recorder.notes, Not(Contains(HasSubstr("init_from"))));
  ExpectTrains();
  std::filesystem::remove_all(Step(4));
  options_.init_from = MakeBase("other", /*seed=*/6);
  for (const MeshVector& sizes : {kOneRank, kTp2}) {
    EXPECT_THAT(ErrorOf(sizes), HasSubstr("base_weights is \""));
  }
}

TEST_F(LoraTrainerTest, OtherAdaptersAreAnotherRun) {
  ExpectTrains();
  std::filesystem::remove_all(Step(4));
  LoraConfig& lora = options_.engine.model.lora;
  lora.alpha = 5;
  EXPECT_THAT(ErrorOf(), HasSubstr("lora_alpha is 4"));
  lora = {.rank = 3, .alpha = 4};
  EXPECT_THAT(ErrorOf(), HasSubstr("lora_rank is 2 there, 3 here"));
  lora = {.rank = 2, .alpha = 4, .targets = {"q_proj"}};
  EXPECT_THAT(ErrorOf(), HasSubstr("lora_targets is "));
  lora = {};
  EXPECT_THAT(ErrorOf(), HasSubstr("lora_rank"));
}

TEST_F(LoraTrainerTest, BeginsFromAnAdapter) {
  ExpectTrains();
  const std::string adapter = options_.init_adapter = directory_ / "adapter";
  std::filesystem::copy(Step(4), adapter);
  for (const char* file : {"/manifest.json", "/run.json", "/optimizer.safetensors"}) {
    std::filesystem::remove(adapter + file);  // as PEFT's
  }
  options_.schedule = {.lr = 0, .warmup_steps = 0, .total_steps = 2};
  for (const MeshVector& sizes : {kOneRank, kDp2, kTp2}) {
    options_.directory += "y";
    ExpectTrains(sizes);
    const std::string name = "/adapter_model.safetensors";
    EXPECT_TRUE(ReadFile(Step(2) + name) == ReadFile(adapter + name)) << options_.directory;
  }
  options_.schedule.total_steps = 3;
  options_.init_adapter = "elsewhere";
  Recorder recorder;
  recorder.fail_at = "step";
  EXPECT_EQ(Train(kTp2, {&recorder}).message(), "the observer has had enough");
  EXPECT_THAT(recorder.notes, Contains(HasSubstr("init_adapter=elsewhere is not read")));
  options_.init_adapter = adapter;
  options_.directory += "y";
  std::filesystem::remove(adapter + "/adapter_model.safetensors");
  EXPECT_THAT(ErrorOf(), HasSubstr(adapter + "/adapter_model.safetensors"));
}

// A run's adapter has the checksum of its base, which another of the same shapes would pass for.
TEST_F(LoraTrainerTest, AnAdapterOfAnotherBaseIsAnError) {
  ExpectTrains();
  options_.init_adapter = directory_ / "adapter";
  std::filesystem::rename(Step(4), options_.init_adapter);
  options_.init_from = MakeBase("other", /*seed=*/6);
  for (const MeshVector& sizes : {kOneRank, kTp2}) {
    options_.directory += "y";
    EXPECT_THAT(ErrorOf(sizes),
                AllOf(HasSubstr(options_.init_from), HasSubstr(options_.init_adapter),
                      HasSubstr("was trained on a base with ")));
  }
  options_.init_from = base_;
  options_.directory += "y";
  ExpectTrains();
}

TEST_F(LoraTrainerTest, ADamagedAdapterOrBaseIsNamed) {
  ExpectTrains();
  std::filesystem::remove_all(Step(4));
  const std::string adapter = Step(2) + "/adapter_model.safetensors";
  std::string bytes = ReadFile(adapter);
  bytes.back() ^= 1;
  WriteFile(adapter, bytes);
  EXPECT_THAT(ErrorOf(), HasSubstr(adapter));
}

TEST_F(LoraTrainerTest, OptionsThatCannotBeRunAreErrors) {
  options_.names.lora_rank = "--rank";
  options_.init_from = "";
  EXPECT_THAT(ErrorOf(), HasSubstr("--rank=2: adapters are added to trained weights"));
  options_.init_from = base_;
  options_.engine.model.lora.targets = {"lm_head"};
  EXPECT_THAT(ErrorOf(), HasSubstr("\"lm_head\" for an adapter"));
  options_.engine.model.lora = {};
  options_.init_adapter = base_;
  EXPECT_THAT(ErrorOf(), HasSubstr("init_adapter=" + base_ + ": the model has no adapters"));
}

TEST_F(TrainerTest, WhatIsNotCarriedIsSaid) {
  ASSERT_TRUE(Train(kOneRank, {}).ok());
  options_.init_from = options_.directory + "/step-4";
  options_.directory = directory_ / "tuned";
  WriteFile(options_.init_from + "/notes.txt", std::string(5 << 20, 'x'));
  Recorder recorder;
  ASSERT_TRUE(Train(kOneRank, {&recorder}).ok());
  EXPECT_THAT(recorder.notes, Contains(HasSubstr("notes.txt is not carried over")));
  EXPECT_FALSE(std::filesystem::exists(options_.directory + "/step-4/notes.txt"));
  std::filesystem::create_symlink("gone", options_.init_from + "/vocab.txt");
  options_.directory = directory_ / "again";
  EXPECT_EQ(ErrorOf(kTp2),
            options_.init_from + "/vocab.txt: cannot be read: No such file or directory");
}

TEST_F(TrainerTest, LargeWeightsLieInSeveralFiles) {
  ASSERT_TRUE(Train(kOneRank, {}).ok());
  const std::string whole = options_.directory;
  options_.max_weights_file_bytes = 10'000;
  for (const MeshVector& sizes : {kOneRank, kDp2, kTp2}) {
    options_.directory += "x";
    options_.async_save = sizes.dp == 2;
    options_.schedule.total_steps = 4;
    ASSERT_TRUE(Train(sizes, {}).ok());
    const std::string checkpoint = options_.directory + "/step-4";
    const auto files = FilesOf(checkpoint);
    EXPECT_EQ(files.count("model.safetensors"), 0);
    EXPECT_EQ(files.count("model.safetensors.index.json"), 1);
    EXPECT_EQ(files.count("model-00001-of-00003.safetensors"), 1);
    EXPECT_TRUE(VerifyCheckpoint(checkpoint).ok());
    options_.schedule.total_steps = 6;
    ASSERT_TRUE(Train(sizes, {}).ok());
    // Without masters in the file, those of bf16 weights are its weights.
    options_.engine.dtype = DType::kBf16;
    options_.schedule.total_steps = 7;
    ASSERT_TRUE(Train(sizes, {}).ok());
    options_.engine.dtype = DType::kF32;
  }
}

TEST_F(TrainerTest, AStartDeletesWhatAKilledRunDidNot) {
  options_.save_every = 2;
  options_.keep_last = 0;
  ASSERT_TRUE(Train(kOneRank, {}).ok());
  EXPECT_TRUE(std::filesystem::exists(options_.directory + "/step-2"));
  options_.keep_last = 1;
  ASSERT_TRUE(Train(kOneRank, {}).ok());
  EXPECT_FALSE(std::filesystem::exists(options_.directory + "/step-2"));
  EXPECT_TRUE(std::filesystem::exists(options_.directory + "/step-4"));
}

TEST_F(TrainerTest, AnErrorWaitsForACheckpointThatIsWritten) {
  options_.save_every = 2;
  for (const MeshVector& sizes : {kOneRank, kDp2}) {
    options_.directory += "x";
    SlowDisk disk(2);
    Opens after(&disk, 3);
    Recorder recorder;
    recorder.fail_at = "step 3";
    EXPECT_EQ(Train(sizes, {&disk, &after, &recorder}).message(), "the observer has had enough");
    EXPECT_TRUE(std::filesystem::exists(options_.directory + "/step-2/run.json"));
    EXPECT_FALSE(std::filesystem::exists(options_.directory + "/step-2.tmp"));
    EXPECT_THAT(ReadFile(options_.directory + "/run.json"), HasSubstr("\"step\": 2,"));
  }
}

// Ends a run at the first step after a checkpoint was written, that of kStep.
class EndsAfterACheckpoint : public TrainObserver {
 public:
  static constexpr int64_t kStep = 1000;

  absl::Status OnStep(const StepMetrics& m) override {
    if (written_) return absl::UnavailableError("the observer has had enough");
    // Leaves the disk as much time as it may need.
    if (m.step > kStep + 1) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return absl::OkStatus();
  }
  absl::Status OnCheckpoint(const TrainCheckpoint& /*checkpoint*/) override {
    written_ = true;
    return absl::OkStatus();
  }

 private:
  bool written_ = false;
};

TEST_F(TrainerTest, WhatWasDoneWhileACheckpointWasWrittenIsNoted) {
  // There is no second save before the first is written.
  constexpr int64_t kStep = EndsAfterACheckpoint::kStep;
  options_.save_every = options_.eval_every = kStep;
  options_.schedule.total_steps = 2 * kStep - 1;
  options_.eval_batches = 1;
  for (const MeshVector& sizes : {kOneRank, kDp2}) {
    options_.directory += "x";
    SlowDisk disk(kStep);
    Opens after(&disk, kStep + 1);
    EndsAfterACheckpoint end;
    EXPECT_EQ(Train(sizes, {&disk, &end, &after}).message(), "the observer has had enough");
    EXPECT_THAT(ReadFile(options_.directory + "/step-1000/run.json"),
                HasSubstr("\"due\": [\n    \"evaluation\""));
    EXPECT_THAT(ReadFile(options_.directory + "/run.json"),
                AllOf(HasSubstr("\"step\": 1000,"), HasSubstr("\"due\": []")));
  }
}

TEST_F(TrainerTest, ARunWhoseCheckpointIsAwayDoesNotBeginAnew) {
  options_.save_every = 2;
  options_.keep_last = 1;
  MetricsObserver metrics, again, moved;
  ASSERT_TRUE(Train(kOneRank, {&metrics}).ok());
  const std::string log = ReadFile(options_.directory + "/metrics.jsonl");
  std::filesystem::rename(options_.directory + "/step-4", directory_ / "away");
  const auto error = [&] { return std::string(Train(kOneRank, {&again}).message()); };
  EXPECT_THAT(error(), AllOf(HasSubstr("run.json is of a run at step 4"),
                             HasSubstr("there is no checkpoint")));
  std::filesystem::create_symlink(directory_ / "none", options_.directory + "/step-4");
  EXPECT_THAT(error(), HasSubstr("step-4 is a symbolic link to "));
  EXPECT_EQ(ReadFile(options_.directory + "/metrics.jsonl"), log);
  std::filesystem::remove(options_.directory + "/step-4");
  std::filesystem::rename(directory_ / "away", options_.directory + "/step-4");
  EXPECT_EQ(error(), "");
}

// A disk that is full for some saves.
class FullDisk : public TrainObserver {
 public:
  explicit FullDisk(int num_saves, int num_good = 0) : num_saves_(num_saves), num_good_(num_good) {}
  absl::Status OnWarning(const std::string& text) override {
    warnings.push_back(text);
    return absl::OkStatus();
  }
  absl::Status OnSave(int64_t) override {
    if (num_good_-- > 0) return absl::OkStatus();
    return num_saves_-- > 0 ? absl::ErrnoToStatus(ENOSPC, "cannot write to x") : absl::OkStatus();
  }

  std::vector<std::string> warnings;

 private:
  int num_saves_, num_good_;
};

TEST_F(TrainerTest, AFullDiskAfterASaveEndsNothing) {
  options_.async_save = false;
  options_.save_every = options_.eval_every = 2;
  options_.eval_batches = 1;
  for (const MeshVector& sizes : {kOneRank, kDp2}) {
    options_.directory += "x";
    FullDisk disk(1, /*num_good=*/1);
    const absl::Status trained = Train(sizes, {&disk});
    ASSERT_TRUE(trained.ok()) << trained;
    EXPECT_THAT(disk.warnings, ElementsAre(HasSubstr("step 2: cannot write to x")));
    EXPECT_TRUE(std::filesystem::exists(options_.directory + "/step-2/run.json"));
    EXPECT_TRUE(std::filesystem::exists(options_.directory + "/step-4/run.json"));
  }
}

TEST_F(TrainerTest, AFullDiskIsTriedAgainWhileTheRunGoesOn) {
  options_.save_every = 2;
  options_.save_retry_seconds = 6;  // every tenth of a second
  for (const MeshVector& sizes : {kOneRank, kDp2, kTp2}) {
    options_.directory += "x";
    FullDisk disk(2);
    const absl::Status trained = Train(sizes, {&disk});
    ASSERT_TRUE(trained.ok()) << trained;
    EXPECT_THAT(disk.warnings,
                ElementsAre(AllOf(HasSubstr("step 2 is not saved: cannot write to x: No space"),
                                  HasSubstr("tries again for ")),
                            HasSubstr(" is not saved: ")));
    EXPECT_TRUE(std::filesystem::exists(options_.directory + "/step-4/run.json"));
    EXPECT_FALSE(std::filesystem::exists(options_.directory + "/step-2"));
  }
}

TEST_F(TrainerTest, ADiskThatStaysFullEndsTheRun) {
  options_.save_every = 2;
  for (const int64_t seconds : {0, 1}) {
    options_.save_retry_seconds = seconds;
    options_.directory += "x";
    FullDisk disk(1000);
    EXPECT_EQ(Train(kDp2, {&disk}).message(),
              seconds == 0
                  ? "step 2 is not saved: cannot write to x: No space left on device. There "
                    "is no checkpoint yet"
                  : "step 4 is not saved: cannot write to x: No space left on device. There "
                    "is no checkpoint yet");
    EXPECT_EQ(disk.warnings.empty(), seconds == 0);
  }
}

// Flips a bit of the last tensor of a file.
void Damage(const std::string& path) {
  std::string bytes = ReadFile(path);
  bytes.back() ^= 4;
  WriteFile(path, bytes);
}

TEST_F(TrainerTest, ADamagedCheckpointIsNamedAndPassedOverOnRequest) {
  options_.save_every = 1;
  options_.keep_last = 0;
  for (const MeshVector& sizes : {kOneRank, kDp2, kTp2}) {
    options_.directory += "x";
    options_.resume = ResumePolicy::kAuto;
    ASSERT_TRUE(Train(sizes, {}).ok());
    const std::string whole = ReadFile(options_.directory + "/step-4/model.safetensors");
    Damage(options_.directory + "/step-4/optimizer.safetensors");
    Damage(options_.directory + "/step-3/model.safetensors");
    EXPECT_THAT(ErrorOf(sizes),
                AllOf(HasSubstr("step-4/optimizer.safetensors: tensor \""),
                      HasSubstr("The newest good checkpoint is " + options_.directory +
                                "/step-2; "
                                "resume=newest_good takes it")));
    options_.resume = ResumePolicy::kNewestGood;
    Recorder recorder;
    const absl::Status trained = Train(sizes, {&recorder});
    ASSERT_TRUE(trained.ok()) << trained;
    EXPECT_THAT(recorder.notes, Contains(HasSubstr("step-4 is damaged, and becomes ")));
    EXPECT_THAT(recorder.notes, Contains("start 2"));
    EXPECT_TRUE(ReadFile(options_.directory + "/step-4/model.safetensors") == whole);
    EXPECT_TRUE(std::filesystem::exists(options_.directory + "/step-3.damaged"));
    options_.resume = ResumePolicy::kAuto;
    EXPECT_EQ(ErrorOf(sizes), "");
  }
}

TEST_F(TrainerTest, ACheckpointWithoutAManifestIsLoadedWithAWarning) {
  options_.save_every = 2;
  ASSERT_TRUE(Train(kOneRank, {}).ok());
  std::filesystem::remove_all(options_.directory + "/step-4");
  std::filesystem::remove(options_.directory + "/step-2/manifest.json");
  Recorder recorder;
  ASSERT_TRUE(Train(kOneRank, {&recorder}).ok());
  EXPECT_THAT(recorder.notes, Contains(HasSubstr("step-2 has no manifest.json")));
}

// The records of the run's directory, and of its checkpoint at step 2.
std::vector<std::string> Records(const std::string& directory) {
  return {directory + "/run.json", directory + "/step-2/run.json"};
}

// Changes the records as if they had been written so.
void Rewrite(const std::string& directory, const std::function<void(RunRecord&)>& change) {
  for (const std::string& path : Records(directory)) {
    RunRecord record = *ParseRunRecord(ReadFile(path), path);
    change(record);
    WriteFile(path, ToJson(record));
  }
  std::filesystem::remove(directory + "/step-2/manifest.json");
}

TEST_F(TrainerTest, AFingerprintThatIsNotThatOfTheSaveIsAnError) {
  options_.schedule.total_steps = 2;
  ASSERT_TRUE(Train(kOneRank, {}).ok());
  options_.schedule.total_steps = 4;
  std::string saved;
  Rewrite(options_.directory, [&](RunRecord& record) {
    saved = record.fingerprint;
    record.fingerprint = std::string(32, 'a');
  });
  for (const MeshVector& sizes : {kOneRank, kDp2, kTp2}) {
    EXPECT_THAT(ErrorOf(sizes), AllOf(HasSubstr("/step-2: the weights and the optimizer's state"),
                                      HasSubstr("fingerprint " + saved + ", and had aaaa")));
  }
  Rewrite(options_.directory, [&](RunRecord& record) { record.fingerprint = saved; });
  EXPECT_EQ(ErrorOf(kTp2), "");
}

TEST_F(TrainerTest, ACheckpointWithoutAFingerprintIsResumed) {
  options_.schedule.total_steps = 2;
  ASSERT_TRUE(Train(kOneRank, {}).ok());
  Rewrite(options_.directory, [](RunRecord& record) { record.fingerprint = ""; });
  EXPECT_THAT(ReadFile(options_.directory + "/step-2/run.json"), Not(HasSubstr("fingerprint\":")));
  options_.schedule.total_steps = 4;
  EXPECT_EQ(ErrorOf(), "");
}

// The fp32 weights of a bf16 run are those of the checkpoint; in fp64 they have other bits.
TEST_F(TrainerTest, AFingerprintIsComparedInBf16AndNotInFp64) {
  options_.schedule.total_steps = 2;
  ASSERT_TRUE(Train(kOneRank, {}).ok());
  const std::string directory = options_.directory;
  options_.schedule.total_steps = 3;
  options_.resume = ResumePolicy::kFromCheckpoint;
  options_.resume_checkpoint = directory + "/step-2";
  options_.engine.dtype = DType::kBf16;
  options_.directory = directory + "-bf16";
  EXPECT_EQ(ErrorOf(), "");
  options_.engine.dtype = DType::kF64;
  options_.engine.op_set = OpSet::kReference;
  options_.directory = directory + "-fp64";
  EXPECT_EQ(ErrorOf(), "");
  options_.resume = ResumePolicy::kAuto;
  options_.schedule.total_steps = 4;
  EXPECT_EQ(ErrorOf(), "") << "resumed in fp64";
  options_.resume = ResumePolicy::kFromCheckpoint;
  Rewrite(directory, [](RunRecord& record) { record.fingerprint = std::string(32, 'a'); });
  options_.engine.dtype = DType::kBf16;
  options_.engine.op_set = OpSet::kAuto;
  options_.directory = directory + "-other";
  EXPECT_THAT(ErrorOf(), HasSubstr("and had aaaa"));
}

std::string DataOf(const std::string& directory) {
  return ReadRunRecord(directory)->identity["train_data"];
}

// Version 0.1.0 and earlier had samples alone.
TEST_F(TrainerTest, SamplesOfTheDataAreComparedWithSamples) {
  options_.schedule.total_steps = 2;
  ASSERT_TRUE(Train(kOneRank, {}).ok());
  const std::string all = DataOf(options_.directory);
  EXPECT_THAT(all, HasSubstr(", tokens 0 to "));
  EXPECT_EQ(all.find(','), 32);
  ThreadTeam team(1);
  const std::string samples =
      (*TrainingData::Open(options_))->FingerprintLike("0123456789abcdef, tokens 0 to 9", team);
  EXPECT_EQ(samples.find(','), 16);
  options_.schedule.total_steps = 4;
  Rewrite(options_.directory, [](RunRecord& record) {
    record.identity["train_data"] = "0123456789abcdef, tokens 0 to 9";
  });
  EXPECT_THAT(ErrorOf(), HasSubstr("train_data is \"0123456789abcdef, tokens 0 to 9\" there, \"" +
                                   samples + "\" here"));
  Rewrite(options_.directory, [&](RunRecord& record) { record.identity["train_data"] = samples; });
  EXPECT_EQ(ErrorOf(kDp2), "");
  EXPECT_EQ(DataOf(options_.directory), all);
  EXPECT_EQ(DataOf(options_.directory + "/step-4"), all);
}

TEST_F(TrainerTest, ATimeOfChangeIsAWarningWhereOnlySamplesAreCompared) {
  options_.schedule.total_steps = 2;
  options_.data_fingerprint_tokens = 100;
  ASSERT_TRUE(Train(kOneRank, {}).ok());
  EXPECT_EQ(DataOf(options_.directory).find(','), 16);
  options_.schedule.total_steps = 3;
  Recorder recorder;
  ASSERT_TRUE(Train(kOneRank, {&recorder}).ok());
  EXPECT_THAT(recorder.notes, Not(Contains(HasSubstr("was changed"))));
  const std::string& text = options_.train_files[0];
  std::filesystem::last_write_time(text,
                                   std::filesystem::last_write_time(text) - std::chrono::hours(1));
  options_.schedule.total_steps = 4;
  ASSERT_TRUE(Train(kOneRank, {&recorder}).ok());
  EXPECT_THAT(recorder.notes,
              Contains(AllOf(HasSubstr("warning train_files was changed or copied since "),
                             HasSubstr("data_fingerprint_tokens can compare all of them"))));
  // Then all are compared, and any change is an error.
  options_.data_fingerprint_tokens = 1 << 20;
  options_.schedule.total_steps = 5;
  EXPECT_EQ(ErrorOf(), "");
  EXPECT_EQ(DataOf(options_.directory).find(','), 32);
  std::string bytes = ReadFile(text);
  bytes[bytes.size() / 2] ^= 1;
  WriteFile(text, bytes);
  EXPECT_THAT(ErrorOf(), HasSubstr("holds another run: train_data is "));
}

TEST_F(TrainerTest, GoesOnInAFolderThatIsRenamed) {
  options_.save_every = 1;
  class Renamer : public TrainObserver {
   public:
    explicit Renamer(std::string directory) : directory_(std::move(directory)) {}
    absl::Status OnStep(const StepMetrics& m) override {
      if (m.step != 2) return absl::OkStatus();
      std::filesystem::rename(directory_, directory_ + "-old");
      std::filesystem::create_directory(directory_);
      return absl::OkStatus();
    }

   private:
    const std::string directory_;
  };
  Renamer renamer(options_.directory);
  MetricsObserver metrics;
  const absl::Status trained = Train(kOneRank, {&metrics, &renamer});
  ASSERT_TRUE(trained.ok()) << trained;
  EXPECT_TRUE(std::filesystem::is_empty(options_.directory));
  EXPECT_TRUE(std::filesystem::exists(options_.directory + "-old/step-4/run.json"));
  EXPECT_THAT(ReadFile(options_.directory + "-old/metrics.jsonl"), HasSubstr("{\"step\":4,"));
}

TEST_F(TrainerTest, WarnsOfFilesThatAreTrainedAndValidatedOn) {
  options_.val_sets = {{.files = options_.train_files}};
  Recorder recorder;
  ASSERT_TRUE(Train(kOneRank, {&recorder}).ok());
  EXPECT_THAT(recorder.notes.front(), HasSubstr("text.txt is in train_files and in val_files"));
}

TEST_F(TrainerTest, EachValidationSetHasALoss) {
  std::string other;
  for (int i = 0; i < 60; ++i) other += "{" + std::to_string(i) + "}";
  WriteFile(directory_ / "other.txt", other);
  options_.val_sets = {{"planks", options_.train_files}, {"braces", {directory_ / "other.txt"}}};
  options_.eval_every = 2;
  options_.eval_batches = 2;
  std::vector<std::string> logs;
  for (const MeshVector& sizes : {kOneRank, kDp2}) {
    options_.directory += "x";
    Recorder recorder;
    MetricsObserver metrics;
    const absl::Status trained = Train(sizes, {&recorder, &metrics});
    ASSERT_TRUE(trained.ok()) << trained;
    EXPECT_THAT(recorder.notes, Contains("evaluation 4 planks of 4"));
    EXPECT_THAT(recorder.notes, Contains("evaluation 4 braces of 4"));
    const std::string log = ReadFile(options_.directory + "/metrics.jsonl");
    EXPECT_THAT(log, HasSubstr("{\"step\":2,\"val_data\":\"planks\",\"val_loss\":"));
    EXPECT_THAT(log, HasSubstr("{\"step\":4,\"val_data\":\"braces\",\"val_loss\":"));
    EXPECT_THAT(log, HasSubstr(",\"val_bits_per_byte\":"));
  }
  options_.val_sets[1].files = {directory_ / "none.txt"};
  EXPECT_THAT(ErrorOf(), HasSubstr("val_files (braces): "));
}

TEST_F(TrainerTest, EpochsAreStepsOfTheData) {
  // 90 % of the text in sequences of eight, four a step.
  const int64_t num_tokens = static_cast<int64_t>(ReadFile(options_.train_files[0]).size());
  const int64_t num_samples = (num_tokens - num_tokens / 10 - 1) / 8;
  options_.schedule.warmup_steps = 100;
  options_.epochs = 0.5;
  options_.limit_warmup = true;
  const int64_t steps = (num_samples + 7) / 8;
  for (const MeshVector& sizes : {kOneRank, kDp2}) {
    options_.directory += "x";
    Recorder recorder;
    ASSERT_TRUE(Train(sizes, {&recorder}).ok());
    EXPECT_EQ(recorder.notes.back(), absl::StrCat("end ", steps, "/", steps));
  }
  const auto record = ReadRunRecord(options_.directory);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->config.at("epochs"), 0.5);
  EXPECT_EQ(record->config.at("steps"), steps);
  EXPECT_EQ(record->identity.at("warmup_steps"), steps / 10);
  // More of them go on with the run, whose warm-up is done.
  options_.epochs = 0.6;
  options_.limit_warmup = false;
  options_.schedule.warmup_steps = steps / 10;
  Recorder longer;
  ASSERT_TRUE(Train(kOneRank, {&longer}).ok());
  EXPECT_THAT(longer.notes, Contains(absl::StrCat("start ", steps)));
  EXPECT_THAT(longer.notes.back(), HasSubstr("end "));
  options_.epochs = 1e15;
  EXPECT_THAT(ErrorOf(), HasSubstr("1e+15 epochs are "));
}

// Sources of four, two and one samples, which are trained on whole.
class BlendTest : public TrainerTest {
 protected:
  BlendTest() {
    options_.val_sets = {{.files = std::exchange(options_.train_files, {})}};
    WriteFile(directory_ / "a.txt", std::string(33, 'a'));
    WriteFile(directory_ / "b.txt", "the bow, the beam");
    WriteFile(directory_ / "c.txt", "caulking.");
    options_.train_sources = {{"a", {directory_ / "a.txt"}, 0.5},
                              {"b", {directory_ / "b.txt"}, 0.3},
                              {"c", {directory_ / "c.txt"}, 0.2}};
    options_.schedule = {
        .kind = ScheduleKind::kConstant, .lr = 0.01, .warmup_steps = 1, .total_steps = 10};
  }

  // The objects of the log's steps.
  std::vector<nlohmann::json> Steps() const {
    std::vector<nlohmann::json> steps;
    for (const absl::string_view line :
         absl::StrSplit(ReadFile(options_.directory + "/metrics.jsonl"), '\n')) {
      if (absl::StrContains(line, "\"loss\"")) steps.push_back(*ParseJson(line, "line"));
    }
    return steps;
  }
};

// Each of its ten steps is resumed with other ranks or micro-batches.
TEST_F(BlendTest, ARunResumedUnderOtherLayoutsHasTheSamplesOfOneThatIsNot) {
  MetricsObserver metrics, resumed_metrics;
  const absl::Status trained = Train(kOneRank, {&metrics});
  ASSERT_TRUE(trained.ok()) << trained;
  const std::vector<nlohmann::json> whole = Steps();
  ASSERT_EQ(whole.size(), 10);
  std::map<std::string, int64_t> tokens;
  for (const nlohmann::json& step : whole) {
    double sum = 0;
    for (const auto& [name, source] : step.at("sources").items()) {
      tokens[name] += source.at("tokens").get<int64_t>();
      sum += source.at("tokens").get<double>() * source.at("loss").get<double>();
    }
    // Of 32 losses in f64.
    EXPECT_NEAR(sum / 32, step.at("loss").get<double>(), 1e-13);
  }
  // 40 samples: five, six and eight epochs.
  EXPECT_THAT(tokens, ElementsAre(Pair("a", 160), Pair("b", 96), Pair("c", 64)));

  options_.directory += "x";
  for (int step = 1; step <= 10; ++step) {
    options_.schedule.total_steps = step;
    options_.engine.micro_batch = step % 3 == 0 ? 1 : 2;
    const MeshVector layouts[] = {kCp2, kDp2, kOneRank, kTp2};
    const MeshVector sizes = step == 8 ? kDp2Cp2 : layouts[step % 4];
    ASSERT_TRUE(Train(sizes, {&resumed_metrics}).ok()) << step;
  }
  const std::vector<nlohmann::json> resumed = Steps();
  ASSERT_EQ(resumed.size(), 10);
  for (int i = 0; i < 10; ++i) {
    // f32 roundings in another order, which ten small steps hardly amplify; the loss of another
    // sample is off by much more.
    EXPECT_NEAR(resumed[i]["loss"].get<double>(), whole[i]["loss"].get<double>(), 1e-3);
    ASSERT_EQ(resumed[i]["sources"].size(), whole[i]["sources"].size());
    for (const auto& [name, source] : whole[i]["sources"].items()) {
      EXPECT_EQ(resumed[i]["sources"][name]["tokens"], source["tokens"]) << name;
      EXPECT_NEAR(resumed[i]["sources"][name]["loss"].get<double>(), source["loss"].get<double>(),
                  1e-3)
          << name;
    }
  }
}

TEST_F(BlendTest, SharesAreTheRunsIdentity) {
  options_.schedule.total_steps = 1;
  ASSERT_EQ(ErrorOf(), "");
  const auto record = ReadRunRecord(options_.directory);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->identity.at("blend").dump(), "[5,3,2]");
  options_.schedule.total_steps = 2;
  for (TrainingSource& source : options_.train_sources) source.weight *= 20;
  options_.train_sources[2].name = "caulk";
  EXPECT_EQ(ErrorOf(kDp2), "") << "the same shares, called otherwise";
  options_.train_sources[2].weight = 10;
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("blend"), HasSubstr("[5,3,5]")));
  std::swap(options_.train_sources[0].files, options_.train_sources[1].files);
  EXPECT_THAT(ErrorOf(), HasSubstr("train_data"));
}

TEST_F(BlendTest, OneSourceIsARunWithoutSources) {
  options_.train_sources.resize(1);
  std::vector<std::string> fingerprints;
  for (const bool with_source : {true, false}) {
    if (!with_source) options_.train_files = std::exchange(options_.train_sources, {})[0].files;
    options_.directory += "x";
    ASSERT_EQ(ErrorOf(), "");
    const auto record = ReadRunRecord(options_.directory + "/step-10");
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_EQ(record->identity.contains("blend"), with_source);
    fingerprints.push_back(record->fingerprint);
  }
  EXPECT_EQ(fingerprints[0], fingerprints[1]);
}

TEST_F(BlendTest, EachSourceIsPreparedAndHeldBackByItself) {
  std::string lines;
  for (int i = 0; i < 60; ++i) absl::StrAppend(&lines, "{\"text\": \"plank ", i * i, "\"}\n");
  WriteFile(directory_ / "docs.jsonl", lines);
  options_.train_sources = {{"text", options_.val_sets[0].files, 1},
                            {"docs", {directory_ / "docs.jsonl"}, 1}};
  options_.val_sets.clear();
  options_.eval_every = 10;
  for (const MeshVector& sizes : {kOneRank, kDp2, kCp2}) {
    options_.directory += "x";
    Recorder recorder;
    MetricsObserver metrics;
    const absl::Status trained = Train(sizes, {&recorder, &metrics});
    ASSERT_TRUE(trained.ok()) << trained;
    EXPECT_THAT(recorder.notes, Contains(HasSubstr("docs.jsonl")));
    const std::string log = ReadFile(options_.directory + "/metrics.jsonl");
    EXPECT_THAT(log, HasSubstr("{\"step\":10,\"val_data\":\"text\",\"val_loss\":"));
    EXPECT_THAT(log, HasSubstr("{\"step\":10,\"val_data\":\"docs\",\"val_loss\":"));
    for (const nlohmann::json& step : Steps()) {
      EXPECT_EQ(step.at("sources").at("text").at("tokens"), 16);
      EXPECT_EQ(step.at("sources").at("docs").at("tokens"), 16);
    }
  }
}

TEST_F(BlendTest, SourcesThatCannotBeTrainedOnAreNamed) {
  options_.max_epochs = 8;
  EXPECT_EQ(ErrorOf(), "");
  options_.max_epochs = 7.5;
  EXPECT_EQ(ErrorOf(kDp2),
            "train_files: 10 steps are 8 epochs of source c, more than max_epochs=7.5; lower steps "
            "or the weight of the source, raise max_epochs, or add data");
  options_.max_epochs = 0;
  options_.train_sources[1].weight = 0;
  EXPECT_THAT(ErrorOf(), HasSubstr("train_files: the weight of source b is 0,"));
  options_.train_sources[1].weight = std::nan("");
  EXPECT_THAT(ErrorOf(), HasSubstr("source b is nan,"));
  options_.train_sources[1].weight = 0.3;
  WriteFile(directory_ / "b.txt", "too few");
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("train_files (b)="), HasSubstr("b.txt"),
                               HasSubstr("has 7 tokens, but one sample takes 9")));
  options_.train_sources[1].files = {directory_ / "none.txt"};
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("train_files (b): "), HasSubstr("none.txt")));
  options_.train_files = options_.val_sets[0].files;
  EXPECT_THAT(ErrorOf(), HasSubstr("1 training files and 3 sources"));
}

TEST_F(BlendTest, FilesOfTwoPlacesAreWarnedOf) {
  const std::string b = options_.train_sources[1].files[0];
  options_.train_sources[2].files.push_back(b);
  options_.val_sets = {{.name = "v", .files = {b}}};
  EXPECT_THAT(
      TrainingData::WarningsOfFiles(options_),
      ElementsAre(b + " is in train_files (b) and in train_files (c): what one holds back "
                      "the other may train on",
                  b + " is in train_files (b) and in val_files: the validation loss will be "
                      "of text that was trained on"));
}

// Sixty texts of one to ten bytes.
class DocumentsTest : public TrainerTest {
 protected:
  DocumentsTest() {
    options_.train_files.clear();
    for (int i = 0; i < 60; ++i) {
      const std::string path = directory_ / absl::StrCat("text", i, ".txt");
      WriteFile(path, std::string("caulked hull").substr(i % 3, 1 + i % 10));
      options_.train_files.push_back(path);
    }
  }

  std::vector<double> LossesOf(const MeshVector& sizes) {
    Recorder recorder;
    recorder.step_tokens = options_.global_batch * options_.engine.seq_len;
    const absl::Status trained = Train(sizes, {&recorder});
    EXPECT_TRUE(trained.ok()) << trained;
    return recorder.losses;
  }

  // Conversations of 5, 9 and 7 tokens, ten times, whose answers are their last three.
  void UseConversations() {
    const std::string path = directory_ / "chat.bin";
    DocumentIndex index;
    index.tokenizer_hash = "none";
    index.vocab_size = 256;
    index.sources = {"chat.jsonl"};
    TargetRanges targets;
    std::vector<int32_t> tokens;
    for (int i = 0; i < 30; ++i) {
      index.documents.push_back({static_cast<int64_t>(tokens.size()), 100 * i, 0});
      for (int j = 0; j < 5 + i % 3 * 4 % 6; ++j) tokens.push_back('a' + (i + j) % 26);
      const int64_t end = tokens.size();
      targets.ranges.push_back({end - 3, end});
    }
    index.num_tokens = targets.num_tokens = tokens.size();
    ASSERT_TRUE(WriteTokenFile(path, tokens, TokenEncoding::kUint16).ok());
    ASSERT_TRUE(WriteDocumentIndex(path, index).ok());
    ASSERT_TRUE(WriteTargetRanges(path, targets).ok());
    options_.train_files = {path};
  }
};

TEST_F(DocumentsTest, LayoutsAndMicroBatchesTrainOnTheSameDocuments) {
  for (const DocumentMode mode : {DocumentMode::kMask, DocumentMode::kPad}) {
    options_.documents = mode;
    options_.engine.micro_batch = 2;
    options_.schedule.total_steps = 4;
    options_.directory += "x";
    MetricsObserver metrics;
    Recorder recorder;
    const absl::Status trained = Train(kOneRank, {&recorder, &metrics});
    ASSERT_TRUE(trained.ok()) << trained;
    EXPECT_THAT(ReadFile(options_.directory + "/metrics.jsonl"), HasSubstr("\"targets\":"));
    for (const MeshVector& sizes : {kOneRank, kDp2, kCp2, kDp2Cp2}) {
      options_.directory += "x";
      options_.engine.micro_batch = 1;
      options_.schedule = {.kind = ScheduleKind::kConstant, .lr = 0.01, .warmup_steps = 1};
      options_.schedule.total_steps = 2;
      std::vector<double> losses = LossesOf(sizes);
      options_.schedule.total_steps = 4;
      for (const double loss : LossesOf(sizes)) losses.push_back(loss);
      ASSERT_EQ(losses.size(), 4);
      // The first two steps have one learning rate under both schedules.
      for (int i = 0; i < 2; ++i) EXPECT_NEAR(losses[i], recorder.losses[i], 1e-4);
    }
    options_.schedule = {.lr = 0.01, .warmup_steps = 1, .total_steps = 4};
  }
}

TEST_F(DocumentsTest, ConversationsAreLearntWhereTheyAnswer) {
  UseConversations();
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("byte 100 of chat.jsonl has 9 tokens"),
                               HasSubstr("more than the 8"), HasSubstr("truncate")));
  options_.truncate = true;
  options_.eval_every = 4;
  std::vector<double> losses;
  for (const MeshVector& sizes : {kOneRank, kDp2}) {
    options_.directory += "x";
    const std::vector<double> now = LossesOf(sizes);
    ASSERT_EQ(now.size(), 4);
    for (int i = 0; i < 4 && !losses.empty(); ++i) EXPECT_NEAR(now[i], losses[i], 1e-4);
    losses = now;
  }
  options_.val_sets = {{.files = {directory_ / "text.txt"}}};
  const auto data = TrainingData::Open(options_);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_THAT(
      (*data)->notes(),
      ElementsAre("train_files=" + options_.train_files[0] +
                  ": truncate cuts 10 of 30 conversations, and with them 10 of 210 tokens"));
  options_.val_sets.clear();
  options_.truncate = false;
  options_.engine.seq_len = 9;
  EXPECT_THAT(ErrorOf(), HasSubstr("truncate"));
}

TEST_F(DocumentsTest, ConversationsAndOtherTextInOneListAreAnError) {
  UseConversations();
  options_.engine.seq_len = 16;
  const std::string chat = options_.train_files[0], text = directory_ / "text.txt",
                    tokens = directory_ / "plain.bin";
  ASSERT_TRUE(WriteTokenFile(tokens, std::vector<int32_t>(200, 'a'), TokenEncoding::kUint16).ok());
  for (const std::string& other : {text, tokens}) {
    const std::string error = absl::StrCat(chat, " (of chat.jsonl) holds conversations, and ",
                                           other, " holds other text: keep them apart");
    options_.val_sets.clear();
    for (const auto& files : {std::vector{chat, other}, std::vector{other, chat}}) {
      options_.train_files = files;
      EXPECT_THAT(ErrorOf(), HasSubstr("train_files: " + error));
    }
    options_.train_files = {text};
    options_.val_sets = {{.files = {chat, other}}};
    EXPECT_THAT(ErrorOf(), HasSubstr("val_files: " + error));
  }
  options_.val_sets = {{.files = {chat}}};
  EXPECT_EQ(ErrorOf(), "");
}

// Tokens without an index can only follow each other.
TEST_F(DocumentsTest, ConversationsToValidateOnLeaveTheTrainingText) {
  UseConversations();
  const std::string chat = options_.train_files[0];
  std::vector<int32_t> tokens;
  for (int i = 0; i < 300; ++i) tokens.push_back('a' + i * i % 26);
  options_.engine.seq_len = 16;
  options_.train_files = {directory_ / "plain.bin"};
  ASSERT_TRUE(WriteTokenFile(options_.train_files[0], tokens, TokenEncoding::kUint16).ok());
  const std::vector<ValidationSet> text = {{.files = {directory_ / "text.txt"}}};
  std::vector<double> losses[2];
  for (const bool chats : {false, true}) {
    options_.directory += "x";
    for (const int64_t steps : {2, 4}) {
      options_.schedule = {.kind = ScheduleKind::kConstant, .lr = 0.01, .warmup_steps = 1};
      options_.schedule.total_steps = steps;
      options_.val_sets = text;
      if (chats && steps == 4) options_.val_sets.push_back({"chats", {chat}});
      losses[chats] = LossesOf(kOneRank);
    }
    EXPECT_FALSE(ReadRunRecord(options_.directory)->identity.contains("documents"));
  }
  ASSERT_EQ(losses[0].size(), 2);
  ASSERT_EQ(losses[1].size(), 2);
  for (int i = 0; i < 2; ++i) EXPECT_NEAR(losses[1][i], losses[0][i], 1e-5);
  // So do conversations in another source.
  options_.train_sources = {{"text", options_.train_files, 1}, {"chats", {chat}, 1}};
  options_.train_files.clear();
  const auto data = TrainingData::Open(options_);
  ASSERT_TRUE(data.ok()) << data.status();
  const auto& blend = (*data)->train_loader();
  EXPECT_EQ(blend.loader(0).options().documents, DocumentMode::kConcat);
  EXPECT_EQ(blend.loader(1).options().documents, DocumentMode::kMask);
  EXPECT_EQ((*data)->documents(), DocumentMode::kConcat);
}

// All documents but one are of one byte, so that some batches hold no target.
TEST_F(DocumentsTest, AStepWithoutATargetHasGradientsOfZero) {
  for (const std::string& path : options_.train_files) WriteFile(path, "a");
  WriteFile(options_.train_files[0], "caulking");
  const std::string validation = directory_ / "validation.txt";
  WriteFile(validation, "caulked hull, caulked hull");
  options_.val_sets = {{.files = {validation}}};
  options_.documents = DocumentMode::kMask;
  options_.engine.micro_batch = 2;
  options_.global_batch = 4;
  options_.schedule.total_steps = 8;
  const std::vector<double> losses = LossesOf(kOneRank);
  const auto is_nan = [](double loss) { return std::isnan(loss); };
  const int64_t without = std::count_if(losses.begin(), losses.end(), is_nan);
  EXPECT_GT(without, 0);
  EXPECT_LT(without, 8);
  options_.directory += "x";
  const std::vector<double> of_two_ranks = LossesOf(kDp2);
  ASSERT_EQ(of_two_ranks.size(), losses.size());
  for (size_t i = 0; i < losses.size(); ++i) {
    EXPECT_THAT(of_two_ranks[i], ::testing::NanSensitiveDoubleNear(losses[i], 1e-4));
  }
}

TEST_F(DocumentsTest, DataWithoutATargetAreAnError) {
  for (const std::string& file : options_.train_files) WriteFile(file, "a");
  options_.val_sets = {{.files = {directory_ / "text.txt"}}};
  for (const DocumentMode mode : {DocumentMode::kMask, DocumentMode::kPad}) {
    options_.documents = mode;
    EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("train_files=" + options_.train_files[0]),
                                 HasSubstr("60 tokens hold no row with a token to learn")));
  }
}

// Of conversations and of text, packed and padded: 18 steps of two sequences, of more than an
// epoch, are those of a run that was never stopped.
TEST_F(DocumentsTest, AResumedRunGoesOnWithTheSameDocuments) {
  options_.engine.seq_len = 16;
  options_.engine.micro_batch = 1;
  options_.global_batch = 2;
  options_.schedule = {.kind = ScheduleKind::kConstant, .lr = 0.01, .warmup_steps = 1};
  for (const bool conversations : {false, true}) {
    if (conversations) UseConversations();
    for (const DocumentMode mode : {DocumentMode::kMask, DocumentMode::kPad}) {
      SCOPED_TRACE(absl::StrCat(conversations, " ", DocumentModeName(mode)));
      options_.documents = mode;
      options_.directory += "x";
      options_.schedule.total_steps = 18;
      MetricsObserver metrics, resumed;
      Recorder whole, parts;
      ASSERT_TRUE(Train(kOneRank, {&metrics, &whole}).ok());
      const std::string expected = options_.directory;
      options_.directory += "x";
      for (const int64_t steps : {1, 2, 9, 17, 18}) {
        options_.schedule.total_steps = steps;
        const absl::Status trained = Train(kOneRank, {&resumed, &parts});
        ASSERT_TRUE(trained.ok()) << trained;
      }
      EXPECT_EQ(parts.losses, whole.losses);
      EXPECT_EQ(TimelessLog(options_.directory), TimelessLog(expected));
      for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
        EXPECT_TRUE(ReadFile(absl::StrCat(options_.directory, "/step-18/", file)) ==
                    ReadFile(absl::StrCat(expected, "/step-18/", file)))
            << file;
      }
      // Under other layouts the same to rounding, in f32, which small steps hardly amplify. The
      // loss of other documents is off by much more.
      options_.directory += "x";
      Recorder others;
      for (const int64_t steps : {3, 7, 18}) {
        options_.schedule.total_steps = steps;
        options_.engine.micro_batch = steps == 7 ? 2 : 1;
        const MeshVector sizes = steps == 3 ? kDp2 : steps == 7 ? kOneRank : kDp2Cp2;
        ASSERT_TRUE(Train(sizes, {&others}).ok());
      }
      options_.engine.micro_batch = 1;
      ASSERT_EQ(others.losses.size(), 18);
      for (int i = 0; i < 18; ++i) EXPECT_NEAR(others.losses[i], whole.losses[i], 1e-3) << i;
    }
  }
}

TEST_F(DocumentsTest, WhatIsLearntOfDocumentsIsTheRuns) {
  UseConversations();
  options_.engine.seq_len = 16;
  options_.documents = DocumentMode::kMask;
  ASSERT_EQ(ErrorOf(), "");
  options_.schedule.total_steps = 5;
  const std::string another = "directory=" + options_.directory + " holds another run: ";
  const std::string advice = ". Use the same settings, or another directory";
  options_.truncate = true;
  EXPECT_EQ(ErrorOf(kDp2), another + "truncate is not set there, true here" + advice);
  options_.truncate = false;
  options_.documents = DocumentMode::kPad;
  EXPECT_EQ(ErrorOf(), another + "documents is \"mask\" there, \"pad\" here" + advice);
  // What conversations take by default.
  options_.documents = DocumentMode::kConcat;
  EXPECT_EQ(ErrorOf(), "");
  // One token fewer is learnt.
  options_.schedule.total_steps = 6;
  const std::string path = options_.train_files[0];
  const std::string targets = ReadFile(TargetRangesPath(path));
  TargetRanges fewer = *ParseTargetRanges(path, targets);
  ++fewer.ranges[20].begin;
  ASSERT_TRUE(WriteTargetRanges(path, fewer).ok());
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr(another + "train_data is "), HasSubstr(", documents "),
                               HasSubstr(advice)));
  WriteFile(TargetRangesPath(path), targets);
  EXPECT_EQ(ErrorOf(), "");
}

TEST_F(DocumentsTest, DocumentsThatAreNotKnownAreAnError) {
  UseConversations();
  std::filesystem::remove(directory_ / "chat.documents");
  EXPECT_THAT(ErrorOf(),
              AllOf(HasSubstr("chat.documents, and conversations need it: give the text"),
                    Not(HasSubstr("documents=concat"))));
  std::filesystem::remove(directory_ / "chat.targets");
  options_.documents = DocumentMode::kMask;
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("chat.documents"), HasSubstr("documents=mask needs it"),
                               HasSubstr("or documents=concat")));
  options_.documents = DocumentMode::kConcat;
  EXPECT_EQ(ErrorOf(), "");
  const auto record = ReadRunRecord(options_.directory);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_FALSE(record->identity.contains("documents"));
}

TEST_F(TrainerTest, MoreEpochsThanAllowedAreAnError) {
  options_.max_epochs = 0.001;
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("epochs of the training data, more than max_epochs="),
                               HasSubstr("lower steps, raise")));
  EXPECT_FALSE(std::filesystem::exists(options_.directory));
}

TEST_F(TrainerTest, TheLastStepOfTheEpochsAllowedIsRoundedUp) {
  options_.epochs = options_.max_epochs = 3.3;
  EXPECT_EQ(ErrorOf(), "");
  options_.epochs = 5;
  EXPECT_THAT(ErrorOf(), HasSubstr("lower epochs, raise max_epochs"));
}

// Forty files of a sentence each.
std::vector<std::string> ManyFiles(const TempDirectory& directory) {
  std::vector<std::string> files;
  for (int i = 0; i < 40; ++i) {
    files.push_back(directory / absl::StrCat("page", i, ".txt"));
    WriteFile(files.back(), absl::StrCat("page ", i, ": the keel was laid in May, and it was ", i));
  }
  return files;
}

TEST_F(TrainerTest, HoldsBackWholeFilesOfMany) {
  options_.train_files = ManyFiles(directory_);
  options_.eval_every = 4;
  Recorder one, two;
  ASSERT_TRUE(Train(kOneRank, {&one}).ok());
  const auto record = ReadRunRecord(options_.directory);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->identity.at("data_rules"), 2);
  EXPECT_THAT(record->identity.at("train_data").get<std::string>(),
              AllOf(HasSubstr(" tokens in "), HasSubstr(" ranges, ")));
  options_.schedule.total_steps = 6;
  EXPECT_EQ(ErrorOf(kDp2), "") << "goes on";
  // Another seed holds other files back.
  options_.directory += "x";
  options_.seed = 2;
  ASSERT_TRUE(Train(kOneRank, {&two}).ok());
  EXPECT_NE(ReadRunRecord(options_.directory)->identity.at("train_data"),
            record->identity.at("train_data"));
}

TEST_F(TrainerTest, AnEarlierVersionsRunGoesOnWithItsSplit) {
  options_.train_files = ManyFiles(directory_);
  options_.save_every = 2;
  // As earlier versions began runs: the identity names no rules, and the end is held back.
  const auto data = TrainingData::Open(options_, {.rules = DataRules::kBytesAndEnd});
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_TRUE((*data)->split().holds_back_the_end);
  ThreadTeam team(1);
  const std::string fingerprint = (*data)->Fingerprint(team);
  EXPECT_THAT(fingerprint, HasSubstr(", tokens 0 to "));
  options_.schedule.total_steps = 2;
  ASSERT_TRUE(Train(kOneRank, {}).ok());
  Rewrite(options_.directory, [&](RunRecord& record) {
    record.identity.erase("data_rules");
    record.identity["train_data"] = fingerprint;
  });
  options_.schedule.total_steps = 4;
  ASSERT_EQ(ErrorOf(kDp2), "");
  const auto record = ReadRunRecord(options_.directory + "/step-4");
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_FALSE(record->identity.contains("data_rules"));
  EXPECT_EQ(record->identity.at("train_data"), fingerprint);
  // Also from a checkpoint elsewhere, and where the folder's own record is lost.
  options_.resume = ResumePolicy::kFromCheckpoint;
  options_.resume_checkpoint = options_.directory + "/step-4";
  options_.directory += "x";
  options_.schedule.total_steps = 6;
  ASSERT_EQ(ErrorOf(), "");
  options_.resume = ResumePolicy::kAuto;
  std::filesystem::remove(options_.directory + "/run.json");
  options_.schedule.total_steps = 7;
  EXPECT_EQ(ErrorOf(), "");
}

TEST_F(TrainerTest, TextIsForModelsOfBytes) {
  options_.engine.model.vocab_size = 300;
  EXPECT_THAT(ErrorOf(),
              AllOf(HasSubstr("train_files: data file "), HasSubstr("text.txt: is text"),
                    HasSubstr("the model has 300 tokens"), HasSubstr("no tokenizer; give its")));
  EXPECT_FALSE(std::filesystem::exists(options_.directory));
  // A run of an earlier version, which read it as bytes, goes on with a warning.
  options_.engine.model.vocab_size = 256;
  options_.schedule.total_steps = 2;
  ASSERT_EQ(ErrorOf(), "");
  const auto data = TrainingData::Open(options_, {.rules = DataRules::kBytesAndEnd});
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_THAT((*data)->Warnings(), ::testing::IsEmpty());
  options_.engine.model.vocab_size = 300;
  const auto wide = TrainingData::Open(options_, {.rules = DataRules::kBytesAndEnd});
  ASSERT_TRUE(wide.ok()) << wide.status();
  EXPECT_THAT((*wide)->Warnings(), ElementsAre(HasSubstr("is read as bytes, as when the run")));
}

TEST_F(TrainerTest, WhatIsNoTextIsNotTrainedOn) {
  const std::map<std::string, std::string> files = {
      {"a.txt", std::string("\x1f\x8b\x08\0", 4) + std::string(200, 'x')},
      {"b.txt", std::string("\x93NUMPY\1\0", 8) + std::string(200, '\0')},
      {"c.txt", "PAR1" + std::string(200, '\0') + "PAR1"},
      {"d.txt", std::string("\x89PNG\r\n\x1a\n", 8) + std::string(200, '\0')}};
  for (const auto& [name, content] : files) {
    WriteFile(directory_ / name, content);
    options_.train_files = {directory_ / "text.txt", directory_ / name};
    EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("train_files: "), HasSubstr(name + ": ")));
  }
  options_.train_files = {directory_ / "text.txt"};
  options_.val_sets = {{.files = {directory_ / "d.txt"}}};
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("val_files: data file "), HasSubstr("d.txt: ")));
  EXPECT_FALSE(std::filesystem::exists(options_.directory));
}

TEST_F(TrainerTest, CheckpointsOfBytesCarryATokenizer) {
  ASSERT_EQ(ErrorOf(), "");
  const std::string tokenizer = ReadFile(options_.directory + "/step-4/tokenizer.json");
  EXPECT_THAT(tokenizer, HasSubstr("\"vocab\""));
  EXPECT_NE(ReadFile(options_.directory + "/step-4/tokenizer_config.json"), "");
  EXPECT_TRUE(VerifyCheckpoint(options_.directory + "/step-4").ok());
  // A run that is resumed has the same, also where the checkpoint lacks it.
  options_.schedule.total_steps = 6;
  ASSERT_EQ(ErrorOf(), "");
  EXPECT_EQ(ReadFile(options_.directory + "/step-6/tokenizer.json"), tokenizer);
}

// Bytes, three merges, and an end of text: 260 tokens.
TokenizerSpec SmallTokenizer() {
  TokenizerSpec spec = ByteTokenizerSpec();
  const auto add = [&](const std::string& text) {
    spec.tokens.push_back(text);
    return static_cast<int32_t>(spec.tokens.size() - 1);
  };
  const int32_t la = add("la"), lan = add("lan"), space_p = add(" p");
  spec.merges = {{'l', 'a', la, 0}, {la, 'n', lan, 1}, {' ', 'p', space_p, 2}};
  const int32_t end = add("<|end|>");
  spec.added = {{.id = end, .text = "<|end|>", .special = true}};
  spec.end_of_text = end;
  return spec;
}

void WriteTokenizer(const std::string& directory, const TokenizerSpec& spec) {
  std::filesystem::create_directory(directory);
  const auto files = TokenizerFiles(spec);
  ASSERT_TRUE(files.ok()) << files.status();
  for (const auto& [name, content] : *files) WriteFile(directory + "/" + name, content);
}

class TokenizedTest : public TrainerTest {
 protected:
  TokenizedTest() {
    WriteTokenizer(directory_ / "tokenizer", SmallTokenizer());
    options_.engine.model.vocab_size = 260;
    options_.tokenizer = directory_ / "tokenizer";
    for (int i = 0; i < 60; ++i) {
      lines_ += absl::StrCat("{\"id\": ", i, ", \"text\": \"plank ", i * i, " of the hull\"}\n");
    }
    WriteFile(directory_ / "docs.jsonl", lines_);
    options_.train_files.push_back(directory_ / "docs.jsonl");
  }

  std::string lines_;
};

// Bits per byte come with a loss whose tokens are not bytes.
class BitsRecorder : public TrainObserver {
 public:
  absl::Status OnNote(const std::string& text) override {
    notes.push_back(text);
    return absl::OkStatus();
  }
  absl::Status OnWarning(const std::string& text) override {
    notes.push_back("warning: " + text);
    return absl::OkStatus();
  }
  absl::Status OnEvaluation(const EvalMetrics& m) override {
    metrics.push_back(m);
    return absl::OkStatus();
  }
  absl::Status OnSample(const TrainSample& sample) override {
    samples.push_back(sample);
    return absl::OkStatus();
  }
  std::vector<std::string> notes;
  std::vector<EvalMetrics> metrics;
  std::vector<TrainSample> samples;
};

TEST_F(TokenizedTest, TextIsPreparedOnceForAllLayouts) {
  options_.eval_every = options_.sample_every = 4;
  std::string data;
  for (const MeshVector& sizes : {kOneRank, kDp2, kTp2}) {
    options_.directory += "x";
    BitsRecorder recorder;
    const absl::Status trained = Train(sizes, {&recorder});
    ASSERT_TRUE(trained.ok()) << trained;
    const bool first = data.empty();
    EXPECT_THAT(recorder.notes,
                ElementsAre(AllOf(HasSubstr(first ? "text of 2 files is prepared: 61 documents"
                                                  : "text of 2 files was prepared before: 61"),
                                  HasSubstr(directory_ / "data_cache/"))));
    const auto record = ReadRunRecord(options_.directory);
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_EQ(record->identity.at("data_rules"), 2);
    if (first) data = record->identity.at("train_data");
    EXPECT_EQ(record->identity.at("train_data"), data);
    ASSERT_EQ(recorder.metrics.size(), 1);
    // About 1.3 bytes are a token, and a document's end is none.
    const double bits = recorder.metrics[0].val_loss / 0.693147 / recorder.metrics[0].bits_per_byte;
    EXPECT_GT(bits, 1.05);
    EXPECT_LT(bits, 1.6);
    ASSERT_EQ(recorder.samples.size(), 1);
    EXPECT_TRUE(recorder.samples[0].is_text);
    EXPECT_THAT(recorder.samples[0].prompt, ::testing::ContainsRegex("[a-z]"));
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
      EXPECT_EQ(ReadFile(options_.directory + "/step-4/" + name),
                ReadFile(options_.tokenizer + "/" + name));
    }
  }
}

// Conversations in place of the texts.
class ConversationsTest : public TokenizedTest {
 protected:
  ConversationsTest() {
    for (int i = 0; i < 40; ++i) {
      absl::StrAppend(&chats_, R"({"messages": [{"role": "user", "content": "plank )", i,
                      R"("}, {"role": "assistant", "content": "of the hull )", i, "\"}]}\n");
    }
    WriteFile(directory_ / "chats.jsonl", chats_);
    options_.train_files = {directory_ / "chats.jsonl"};
    options_.chat_format = "zephyr";  // whose only token is the end of text
    options_.engine.seq_len = 128;
  }

  std::string chats_;
};

TEST_F(ConversationsTest, ArePreparedWithTheirAnswers) {
  for (const MeshVector& sizes : {kOneRank, kDp2}) {
    const bool first = sizes.dp == 1;
    options_.directory += "x";
    BitsRecorder recorder;
    const absl::Status trained = Train(sizes, {&recorder});
    ASSERT_TRUE(trained.ok()) << trained;
    EXPECT_THAT(
        recorder.notes,
        ElementsAre(
            AllOf(HasSubstr(absl::StrCat(
                      "conversations of ", directory_ / "chats.jsonl", " in the format zephyr ",
                      first ? "are prepared: 40 conversations, " : "were prepared before: 40 ")),
                  HasSubstr(" of answers in ")),
            "conversations do not see each other: for them documents is mask, not concat"));
    const auto record = ReadRunRecord(options_.directory);
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_EQ(record->identity.at("chat_format"), "zephyr");
  }
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "data_cache")) {
    EXPECT_TRUE(std::filesystem::exists(entry.path() / "tokens-00000.targets"));
  }
}

// The validation's loss and bytes are those of its answer: 13 bytes and the end of text.
TEST_F(ConversationsTest, BitsPerByteAreOfAnswers) {
  WriteFile(directory_ / "val.jsonl", R"({"messages": [{"role": "user", "content": "plank 7"}, )"
                                      R"({"role": "assistant", "content": "of the hull 7"}]})");
  options_.val_sets = {{.files = {directory_ / "val.jsonl"}}};
  options_.eval_every = 4;
  for (const DocumentMode mode : {DocumentMode::kMask, DocumentMode::kPad}) {
    options_.documents = mode;
    options_.directory += "x";
    BitsRecorder recorder;
    ASSERT_TRUE(Train(kOneRank, {&recorder}).ok());
    ASSERT_EQ(recorder.metrics.size(), 1);
    const EvalMetrics& metrics = recorder.metrics[0];
    EXPECT_EQ(metrics.num_samples, 1);
    EXPECT_NEAR(metrics.bits_per_byte, metrics.val_loss / std::numbers::ln2 * 14 / 13, 1e-12);
  }
}

TEST_F(ConversationsTest, ARunOfTextGetsThemToValidateOn) {
  const std::string format = std::exchange(options_.chat_format, "");
  options_.train_files = {directory_ / "docs.jsonl"};
  options_.val_sets = {{.files = {directory_ / "text.txt"}}};
  ASSERT_EQ(ErrorOf(), "");
  options_.chat_format = format;
  options_.val_sets = {{.files = {directory_ / "chats.jsonl"}}};
  options_.schedule.total_steps = options_.eval_every = 6;
  BitsRecorder recorder;
  const absl::Status trained = Train(kDp2, {&recorder});
  ASSERT_TRUE(trained.ok()) << trained;
  EXPECT_EQ(recorder.metrics.size(), 1);
  EXPECT_THAT(recorder.notes, Contains(HasSubstr("for them documents is mask, not concat")));
  EXPECT_THAT(recorder.notes, Not(Contains(HasSubstr("is not used"))));
}

TEST_F(ConversationsTest, OneThatIsTooLongIsNamedByItsLine) {
  const std::string content(300, 'a');
  WriteFile(directory_ / "chats.jsonl",
            absl::StrCat(chats_, "\n", R"({"messages": [{"role": "user", "content": ")", content,
                         R"("}, {"role": "assistant", "content": "b"}]})", "\n", chats_));
  const std::string path = directory_ / "chats.jsonl";
  EXPECT_THAT(ErrorOf(kDp2),
              AllOf(HasSubstr("the conversation at line 42 of " + path + " has 3"),
                    ::testing::ContainsRegex("as 1 of 7[0-9] have"), HasSubstr("truncate")))
      << "a tenth of 81 is held back";
  // Its tokens are all that is left.
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "data_cache")) {
    options_.train_files = {entry.path() / "tokens-00000.bin"};
  }
  std::filesystem::remove(path);
  EXPECT_THAT(ErrorOf(), HasSubstr(absl::StrCat("the conversation at byte ", chats_.size() + 1,
                                                " of ", path, " has 3")));
}

TEST_F(ConversationsTest, BadInputIsNamed) {
  options_.chat_format = "";
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("chat_format: "), HasSubstr("chats.jsonl holds messages"),
                               HasSubstr("choose a chat format of chatml")));
  options_.chat_format = "chatty";
  EXPECT_THAT(ErrorOf(), HasSubstr("chat_format: there is no chat format \"chatty\""));
  options_.chat_format = "chatml";
  EXPECT_THAT(ErrorOf(), HasSubstr("has no added token \"<|im_end|>\""));
  options_.chat_format = "zephyr";
  options_.train_files.push_back(directory_ / "docs.jsonl");
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("train_files: "), HasSubstr("holds conversations, and "),
                               HasSubstr("docs.jsonl holds other text")));
  options_.train_files.pop_back();
  WriteFile(directory_ / "chats.jsonl",
            chats_ + R"({"messages": [{"role": "user", "content": "a"}]})");
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("chats.jsonl: line 41, column 15: the conversation ends"),
                               HasSubstr("give skip_bad_lines")));
}

// The template is one that is not known, as if there was none.
TEST_F(ConversationsTest, ARunGoesOnWithItsChatFormat) {
  const std::string folder = directory_ / "tokenizer", moved = directory_ / "moved";
  const std::map<std::string, std::string> templates = {
      {"/chat_template.jinja", "{{ messages }}"}, {"/additional_chat_templates/a.jinja", "{}"}};
  std::filesystem::create_directory(folder + "/additional_chat_templates");
  for (const auto& [name, text] : templates) WriteFile(folder + name, text);
  ASSERT_EQ(ErrorOf(), "");
  for (const auto& [name, text] : templates) {
    EXPECT_EQ(ReadFile(options_.directory + "/step-4" + name), text);
  }
  options_.chat_format = "";
  options_.schedule.total_steps = 5;
  EXPECT_EQ(ErrorOf(kDp2), "");
  std::filesystem::rename(folder, moved);
  options_.schedule.total_steps = 6;
  EXPECT_EQ(ErrorOf(), "");
  options_.resume = ResumePolicy::kFromCheckpoint;
  options_.resume_checkpoint = options_.directory + "/step-6";
  options_.directory += "x";
  options_.schedule.total_steps = 7;
  ASSERT_EQ(ErrorOf(), "");
  EXPECT_EQ(ReadRunRecord(options_.directory)->identity.at("chat_format"), "zephyr");
  EXPECT_EQ(ReadFile(options_.directory + "/step-7/chat_template.jinja"), "{{ messages }}");
  // A new run has none, and carries the template beside its tokenizer's file.
  options_.resume = ResumePolicy::kAuto;
  options_.directory += "x";
  options_.tokenizer = moved + "/tokenizer.json";
  EXPECT_THAT(ErrorOf(), HasSubstr("its chat template is not known"));
  options_.chat_format = "zephyr";
  EXPECT_EQ(ErrorOf(), "");
  EXPECT_EQ(ReadFile(options_.directory + "/step-7/chat_template.jinja"), "{{ messages }}");
}

TEST_F(TokenizedTest, AChatFormatThatNothingNeedsIsWarnedOf) {
  options_.chat_format = "zephyr";
  BitsRecorder recorder;
  ASSERT_TRUE(Train(kOneRank, {&recorder}).ok());
  EXPECT_THAT(recorder.notes, Contains("warning: chat_format=zephyr is not used: no file of "
                                       "conversations is prepared"));
  EXPECT_FALSE(ReadRunRecord(options_.directory)->identity.contains("chat_format"));
}

TEST_F(TokenizedTest, DamagedTokensOfTheCacheAreMadeAgain) {
  ASSERT_EQ(ErrorOf(), "");
  std::string first;
  for (const MeshVector& sizes : {kOneRank, kDp2}) {
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / "data_cache")) {
      first = entry.path().string() + "/tokens-00000.bin";
    }
    const std::string tokens = ReadFile(first);
    std::filesystem::resize_file(first, tokens.size() / 2);
    options_.directory += "x";
    BitsRecorder recorder;
    const absl::Status trained = Train(sizes, {&recorder});
    ASSERT_TRUE(trained.ok()) << trained;
    EXPECT_THAT(recorder.notes,
                ElementsAre(HasSubstr("text of 2 files is prepared: 61 documents"),
                            AllOf(HasSubstr("warning: "), HasSubstr("is damaged: it lacks tokens; "
                                                                    "its text was prepared"))));
    EXPECT_EQ(ReadFile(first), tokens);
  }
}

TEST_F(TokenizedTest, ARunGoesOnWithTheTokenizerOfItsCheckpoint) {
  ASSERT_EQ(ErrorOf(), "");
  options_.tokenizer = "";
  options_.schedule.total_steps = 6;
  BitsRecorder recorder;
  ASSERT_TRUE(Train(kDp2, {&recorder}).ok());
  EXPECT_THAT(recorder.notes, Contains(HasSubstr("was prepared before")));
  EXPECT_EQ(ReadFile(options_.directory + "/step-6/tokenizer.json"),
            ReadFile(directory_ / "tokenizer/tokenizer.json"));
  // So does one that begins from it.
  options_.init_from = options_.directory + "/step-6";
  options_.directory += "x";
  ASSERT_EQ(ErrorOf(), "");
  EXPECT_EQ(ReadFile(options_.directory + "/step-6/tokenizer.json"),
            ReadFile(directory_ / "tokenizer/tokenizer.json"));
}

TEST_F(TokenizedTest, ARunGoesOnWhereItsTokenizerIsGone) {
  ASSERT_EQ(ErrorOf(), "");
  const std::string folder = directory_ / "tokenizer", moved = directory_ / "moved";
  const std::string saved = ReadFile(folder + "/tokenizer.json");
  std::filesystem::rename(folder, moved);
  for (const bool empty : {false, true}) {
    if (empty) std::filesystem::create_directory(folder);
    const int64_t before = options_.schedule.total_steps++;
    BitsRecorder recorder;
    const absl::Status trained = Train(kDp2, {&recorder});
    ASSERT_TRUE(trained.ok()) << trained;
    EXPECT_EQ(recorder.notes[0], absl::StrCat("tokenizer: ", folder,
                                              " is gone; the run goes on with the tokenizer in ",
                                              options_.directory, "/step-", before));
    EXPECT_EQ(ReadFile(absl::StrCat(options_.directory, "/step-", before + 1, "/tokenizer.json")),
              saved);
  }
  // One that is there counts, and must be the run's.
  TokenizerSpec other = SmallTokenizer();
  other.merges.clear();
  std::filesystem::remove(folder);
  WriteTokenizer(folder, other);
  ++options_.schedule.total_steps;
  EXPECT_THAT(ErrorOf(), HasSubstr("train_data"));
  // A new run has no other.
  std::filesystem::remove_all(folder);
  options_.directory += "x";
  EXPECT_THAT(ErrorOf(), HasSubstr("tokenizer: " + folder));
}

TEST_F(TokenizedTest, TasksOfAModelWithoutATokenizerAreAnError) {
  ASSERT_EQ(ErrorOf(), "");
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "data_cache")) {
    options_.train_files = {entry.path().string() + "/tokens-00000.bin"};
  }
  options_.tokenizer = "";
  options_.directory += "x";
  WriteFile(directory_ / "hulls.jsonl",
            "{\"context\": \"plank\", \"choices\": [\"of\", \"xyz\"], \"answer\": 0}\n");
  options_.eval_tasks = {directory_ / "hulls.jsonl"};
  EXPECT_EQ(ErrorOf(kDp2),
            absl::StrCat("eval_tasks: ", options_.eval_tasks[0],
                         ": holds text, and the model has a vocabulary of 260 "
                         "tokens but no tokenizer; give its tokenizer by tokenizer"));
  EXPECT_FALSE(std::filesystem::exists(options_.directory));
  options_.engine.model.vocab_size = 256;
  options_.train_files = {directory_ / "docs.jsonl"};
  EXPECT_EQ(ErrorOf(kDp2), "") << "of bytes";
}

TEST_F(TokenizedTest, TokensOfAnotherTokenizerAreAnError) {
  ASSERT_EQ(ErrorOf(), "");
  std::string prepared;
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "data_cache")) {
    prepared = entry.path().string() + "/tokens-00000.bin";
  }
  options_.train_files = {prepared};
  options_.directory += "x";
  ASSERT_EQ(ErrorOf(), "") << "prepared with the same";
  TokenizerSpec other = SmallTokenizer();
  other.merges.pop_back();
  WriteTokenizer(directory_ / "other", other);
  options_.tokenizer = directory_ / "other";
  options_.directory += "x";
  EXPECT_THAT(ErrorOf(kDp2), AllOf(HasSubstr("train_files: data file " + prepared),
                                   HasSubstr("was prepared with another tokenizer (")));
  options_.tokenizer = "";
  options_.engine.model.vocab_size = 258;
  EXPECT_THAT(ErrorOf(), HasSubstr(prepared));
  EXPECT_FALSE(std::filesystem::exists(options_.directory));
}

TEST_F(TokenizedTest, TokensOfSeveralTokenizersAreAnError) {
  ASSERT_EQ(ErrorOf(), "");
  std::string prepared;
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "data_cache")) {
    prepared = entry.path().string() + "/tokens-00000.bin";
  }
  const auto file = TokenFile::Open(prepared, options_.engine.model.vocab_size);
  ASSERT_TRUE(file.ok()) << file.status();
  auto index = ReadDocumentIndex(prepared, file->num_tokens());
  ASSERT_TRUE(index.ok() && index->has_value()) << index.status();
  const std::string other = directory_ / "other.bin";
  std::filesystem::copy_file(prepared, other);
  (*index)->tokenizer_hash[0] ^= 1;
  ASSERT_TRUE(WriteDocumentIndex(other, **index).ok());
  options_.tokenizer = "";
  options_.train_files = {prepared};
  options_.val_sets = {{"", {other}}};
  options_.directory += "x";
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("val_files: data file " + other), HasSubstr(prepared)));
}

TEST_F(TokenizedTest, TokenizersThatDoNotFitAreErrors) {
  options_.engine.model.vocab_size = 259;
  EXPECT_THAT(ErrorOf(kDp2), AllOf(HasSubstr("tokenizer: " + directory_ / "tokenizer"),
                                   HasSubstr("has 260 tokens, and the model 259")));
  options_.engine.model.vocab_size = 300;
  BitsRecorder recorder;
  ASSERT_TRUE(Train(kOneRank, {&recorder}).ok());
  EXPECT_EQ(recorder.notes[0],
            "the model has 300 tokens, of which its tokenizer uses the first 260");
  options_.tokenizer = directory_ / "none";
  options_.directory += "x";
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("tokenizer: "), HasSubstr("none")));
}

TEST_F(TokenizedTest, BrokenLinesAreNamedOrCounted) {
  WriteFile(directory_ / "docs.jsonl", lines_ + "{\"text\": 3}\n{\"text\": \"plank\n" + lines_);
  EXPECT_THAT(ErrorOf(kDp2),
              AllOf(HasSubstr("train_files: "), HasSubstr("docs.jsonl"), HasSubstr("61"),
                    HasSubstr("; to leave out what is no document, give skip_bad_lines")));
  EXPECT_FALSE(std::filesystem::exists(options_.directory));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "data_cache"));
  options_.skip_bad_lines = true;
  BitsRecorder recorder;
  ASSERT_TRUE(Train(kOneRank, {&recorder}).ok());
  EXPECT_THAT(recorder.notes, Contains(AllOf(HasSubstr("text of 2 files: 2 bad lines, 0 empty doc"),
                                             HasSubstr("; the first bad line: "),
                                             Not(HasSubstr("give skip_bad_lines")))));
  options_.skip_bad_lines = false;
  options_.text_field = "body";
  WriteFile(directory_ / "docs.jsonl", lines_);
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("docs.jsonl"), HasSubstr("body")));
}

TEST_F(TokenizedTest, AnErrorRemovesNothingOfTheUsers) {
  const std::string file = directory_ / "mine", link = directory_ / "link",
                    folder = directory_ / "folder", broken = directory_ / "broken.jsonl";
  WriteFile(file, "precious");
  std::filesystem::create_directory(folder);
  std::filesystem::create_symlink("folder", link);
  for (const std::string& cache : {file, link, folder, directory_ / "new"}) {
    options_.data_cache = cache;
    WriteFile(broken, "{\"text\": 3}\n");
    options_.train_files = {broken};
    EXPECT_THAT(ErrorOf(), HasSubstr(cache == file ? "data_cache: " : "train_files: "));
  }
  EXPECT_EQ(ReadFile(file), "precious");
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_TRUE(std::filesystem::is_directory(folder));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "new"));
}

TEST_F(TokenizedTest, AnObserversErrorEndsThePreparation) {
  struct Failing : TrainObserver {
    absl::Status OnPrepare(const PrepareProgress&) override {
      failed = true;
      return absl::UnavailableError("the observer has had enough");
    }
    std::atomic<bool> failed = false;
  } failing;
  // Called while text is prepared, which is to take longer than the observer.
  options_.stop_requested = [&] {
    const auto pause = std::chrono::milliseconds(100);
    for (int i = 0; i < 100 && !failing.failed; ++i) std::this_thread::sleep_for(pause);
    std::this_thread::sleep_for(pause);
    return false;
  };
  EXPECT_THAT(Train(kOneRank, {&failing}).message(), HasSubstr("has had enough"));
  EXPECT_TRUE(failing.failed);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "data_cache"));
}

TEST_F(TokenizedTest, AStopWhileTextIsPreparedIsThatOfAllRanks) {
  ASSERT_EQ(ErrorOf(), "");
  // The preparation waits for the lock of its folder.
  std::string unfinished;
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "data_cache")) {
    unfinished = entry.path().string() + ".unfinished";
  }
  std::filesystem::remove_all(directory_ / "data_cache");
  std::filesystem::create_directories(unfinished);
  WriteFile(unfinished + "/lock", "");
  const FileDescriptor lock(open((unfinished + "/lock").c_str(), O_RDWR));
  ASSERT_EQ(flock(lock.get(), LOCK_EX), 0);
  options_.directory += "x";
  for (const int asked : {0, 1}) {
    std::array<absl::Status, 2> statuses;
    const absl::Status ran = RunOnThreads(kDp2, {}, [&](const Mesh& mesh) {
      TrainerOptions options = options_;
      options.stop_requested = [&] { return mesh.rank() == asked; };
      statuses[mesh.rank()] = Trainer::Create(options, mesh, {}).status();
      return absl::OkStatus();
    });
    EXPECT_TRUE(ran.ok()) << ran;
    for (const absl::Status& status : statuses) {
      EXPECT_TRUE(absl::IsCancelled(status)) << asked << ": " << status;
    }
  }
  ASSERT_EQ(flock(lock.get(), LOCK_UN), 0);
  EXPECT_EQ(ErrorOf(kDp2), "");
}

TEST_F(TokenizedTest, AnEmptyFileIsTextWithoutDocuments) {
  WriteFile(directory_ / "empty.txt", "");
  options_.train_files.push_back(directory_ / "empty.txt");
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("train_files: "), HasSubstr("empty.txt: is empty")));
  options_.skip_bad_lines = true;
  BitsRecorder recorder;
  const absl::Status trained = Train(kOneRank, {&recorder});
  ASSERT_TRUE(trained.ok()) << trained;
  EXPECT_THAT(recorder.notes,
              Contains(HasSubstr("text of 3 files: 0 bad lines, 1 empty document")));
}

TEST_F(TokenizedTest, EachOfAFewTextsGivesItsLastTenth) {
  options_.train_files.clear();
  for (int i = 0; i < 5; ++i) {
    std::string text;
    for (int j = 0; j < 50; ++j) absl::StrAppend(&text, "hull ", 100 * i + j + 100, "\n");
    options_.train_files.push_back(directory_ / absl::StrCat("book", i, ".txt"));
    WriteFile(options_.train_files.back(), text);
  }
  ASSERT_EQ(ErrorOf(), "");
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "data_cache")) {
    options_.train_files = {entry.path().string() + "/tokens-00000.bin"};
  }
  const auto data = TrainingData::Open(options_);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ((*data)->split().val.ranges().size(), 5);
}

TEST_F(TokenizedTest, CheckpointsOfAVocabularysRunAreOpened) {
  const std::string folder = directory_ / "vocabulary/";
  std::filesystem::create_directory(folder);
  const auto json = ParseJson(*TokenizerJson(SmallTokenizer()), "tokenizer.json");
  ASSERT_TRUE(json.ok()) << json.status();
  nlohmann::json vocab = (*json)["model"]["vocab"];
  vocab["<|end|>"] = 259;
  WriteFile(folder + "vocab.json", JsonText(vocab));
  WriteFile(folder + "merges.txt", "#version: 0.2\nl a\nla n\n\u0120 p\n");
  for (const char* name : {"vocab.json", "merges.txt"}) {
    options_.tokenizer = folder + name;
    options_.directory += "x";
    options_.schedule.total_steps = 4;
    ASSERT_EQ(ErrorOf(), "");
    for (const char* file : {"vocab.json", "merges.txt"}) {
      EXPECT_EQ(ReadFile(options_.directory + "/step-4/" + file), ReadFile(folder + file));
    }
    const auto opened = OpenTokenizer(options_.directory + "/step-4", {});
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ((*opened)->vocab_size(), 260);
    options_.tokenizer = "";
    options_.schedule.total_steps = 5;
    EXPECT_EQ(ErrorOf(), "") << "goes on";
  }
}

TEST_F(TokenizedTest, AFilesContentDecidesWhatItIsCalled) {
  const auto tokenizer = OpenTokenizer(directory_ / "tokenizer", {});
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto carried = [&](const std::string& content) {
    WriteFile(directory_ / "mine.json", content);
    const auto files = ReadTokenizerFiles(directory_ / "mine.json", **tokenizer);
    EXPECT_TRUE(files.ok()) << files.status();
    for (const auto& [name, text] : *files) {
      if (text == content) return name;
    }
    return std::string();
  };
  EXPECT_EQ(carried("{\"config\": {}}"), "tekken.json");
  EXPECT_EQ(carried("{\"model\": {}}"), "tokenizer.json");
  EXPECT_EQ(carried("{\"config\": 0, \"model\": 1}"), "mine.json");
}

TEST_F(TokenizedTest, AContinuationBeginsWithItsBlank) {
  ASSERT_EQ(ErrorOf(), "");
  options_.train_files = {directory_ / "copy.bin"};
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "data_cache")) {
    std::filesystem::copy(entry.path() / "tokens-00000.bin", options_.train_files[0]);
  }
  // As SentencePiece's: the first blank of a text is none.
  TokenizerSpec spec = SmallTokenizer();
  spec.decoders = {{.kind = DecodingStep::Kind::kFuse},
                   {.kind = DecodingStep::Kind::kStrip, .content = " ", .start = 1}};
  const auto tokenizer = Tokenizer::Create(std::move(spec));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto data = TrainingData::Open(options_, {.tokenizer = tokenizer->get()});
  ASSERT_TRUE(data.ok()) << data.status();
  const int32_t space_p = 258;
  EXPECT_EQ((*data)->ToText({space_p, 'q'}), "pq");
  EXPECT_EQ((*data)->ToText({space_p, 'q'}, {'a'}), " pq");
  // A control character of two bytes is shown.
  EXPECT_EQ((*data)->ToText({'q', 0xc2, 0x9b, '\n'}), "q\\x9b\n");
}

TEST_F(TokenizedTest, TasksAreScoredAtEachValidation) {
  std::string questions;
  for (int i = 0; i < 7; ++i) {
    questions += absl::StrCat("{\"context\": \"plank ", i,
                              "\", \"choices\": [\"of\", \"xyz\"], \"answer\": ", i % 2, "}\n");
  }
  WriteFile(directory_ / "hulls.jsonl", questions);
  options_.engine.seq_len = 16;
  options_.engine.model.max_positions = 64;
  options_.eval_tasks = {directory_ / "hulls.jsonl"};
  options_.eval_every = 2;
  std::string lines;
  for (const MeshVector& sizes : {kOneRank, kDp2, kTp2}) {
    options_.directory += "x";
    MetricsObserver metrics;
    const absl::Status trained = Train(sizes, {&metrics});
    ASSERT_TRUE(trained.ok()) << trained;
    std::string of_tasks;
    for (const absl::string_view line :
         absl::StrSplit(ReadFile(options_.directory + "/metrics.jsonl"), '\n')) {
      if (absl::StrContains(line, "eval_task")) absl::StrAppend(&of_tasks, line, "\n");
    }
    if (lines.empty()) lines = of_tasks;
    EXPECT_EQ(of_tasks, lines) << "a layout changes an accuracy only where two losses are equal";
  }
  EXPECT_THAT(lines, HasSubstr("{\"step\":2,\"eval_task\":\"hulls\",\"acc\":0."));
  EXPECT_THAT(lines, HasSubstr("{\"step\":4,\"eval_task\":\"hulls\",\"acc\":0."));
  EXPECT_THAT(lines, HasSubstr(",\"examples\":7}"));
  std::filesystem::create_directory(directory_ / "more");
  WriteFile(directory_ / "more/hulls.jsonl", questions);
  options_.eval_tasks.push_back(directory_ / "more/hulls.jsonl");
  EXPECT_THAT(ErrorOf(kDp2),
              AllOf(HasSubstr("eval_tasks: two files are called hulls"), HasSubstr("more/hulls")));
  options_.eval_tasks.pop_back();
  WriteFile(directory_ / "hulls.jsonl", questions + "{\"context\": 3}\n");
  EXPECT_THAT(ErrorOf(kDp2),
              AllOf(HasSubstr("eval_tasks: "), HasSubstr("hulls.jsonl"), HasSubstr("8")));
}

TEST_F(TokenizedTest, AModelOfBytesTakesDocumentsToo) {
  options_.engine.model.vocab_size = 256;
  options_.tokenizer = "";
  options_.train_files = {directory_ / "docs.jsonl"};
  options_.sample_every = 4;
  BitsRecorder recorder;
  const absl::Status trained = Train(kDp2, {&recorder});
  ASSERT_TRUE(trained.ok()) << trained;
  EXPECT_THAT(recorder.notes, ElementsAre(HasSubstr("docs.jsonl is prepared: 60 documents")));
  EXPECT_TRUE(recorder.samples.at(0).is_text);
  EXPECT_THAT(recorder.samples[0].prompt, ::testing::MatchesRegex("[a-z0-9 ]+"));
  EXPECT_NE(ReadFile(options_.directory + "/step-4/tokenizer.json"), "");
  options_.schedule.total_steps = 5;
  EXPECT_EQ(ErrorOf(), "") << "goes on";
}

TEST_F(TrainerTest, ARunGoesOnWithOtherValidationFiles) {
  std::string lines;
  for (int i = 0; i < 60; ++i) lines += absl::StrCat("{\"text\": \"plank ", i, "\"}\n");
  WriteFile(directory_ / "b.jsonl", lines);
  WriteFile(directory_ / "b.txt", lines);
  int64_t steps = 4;
  for (const char* first : {"b.jsonl", "b.txt"}) {
    options_.directory += "x";
    for (const char* name : {first, "b.txt", "b.jsonl"}) {
      options_.val_sets = {{.files = {directory_ / name}}};
      options_.schedule.total_steps = ++steps;
      BitsRecorder recorder;
      const absl::Status trained = Train(kDp2, {&recorder});
      EXPECT_TRUE(trained.ok()) << first << " then " << name << ": " << trained;
      if (absl::EndsWith(name, "l")) {
        EXPECT_THAT(recorder.notes, Contains(HasSubstr("60 documents")));
      }
      EXPECT_FALSE(ReadRunRecord(options_.directory)->identity.contains("data_rules"));
    }
  }
}

TEST_F(TokenizedTest, ValidationTextOfARunOfTokensIsPrepared) {
  ASSERT_EQ(ErrorOf(), "");
  std::string prepared;
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "data_cache")) {
    prepared = entry.path().string() + "/tokens-00000.bin";
  }
  options_.train_files = options_.val_sets.emplace_back().files = {prepared};
  options_.directory += "x";
  ASSERT_EQ(ErrorOf(), "");
  ASSERT_FALSE(ReadRunRecord(options_.directory)->identity.contains("data_rules"));
  options_.schedule.total_steps = 5;
  options_.val_sets[0].files = {directory_ / "text.txt"};
  BitsRecorder recorder;
  const absl::Status trained = Train(kDp2, {&recorder});
  ASSERT_TRUE(trained.ok()) << trained;
  EXPECT_THAT(recorder.notes, Contains(HasSubstr("text.txt is prepared: 1 document, ")));
  WriteFile(directory_ / "a.png", std::string("\x89PNG\r\n\x1a\n", 8) + std::string(200, '\0'));
  options_.val_sets[0].files = {directory_ / "a.png"};
  options_.schedule.total_steps = 6;
  EXPECT_THAT(ErrorOf(kDp2), AllOf(HasSubstr("val_files: data file "), HasSubstr("a.png: ")));
}

TEST_F(TrainerTest, ErrorsCallOptionsWhatTheProgramDoes) {
  options_.train_files = {directory_ / "none.txt"};
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("train_files: "), HasSubstr("none.txt")));
  options_.names.train_files = "the corpus";
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("the corpus: "), Not(HasSubstr("train_files"))));
  options_.train_files = {directory_ / "text.txt"};
  ASSERT_EQ(ErrorOf(), "");
  options_.resume = ResumePolicy::kNever;
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("resume=never, but "), HasSubstr("another directory")));
  options_.resume = ResumePolicy::kAuto;
  options_.seed = 2;
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("seed is 1 there, 2 here"), HasSubstr("directory=")));
}

TEST_F(TrainerTest, OptionsThatCannotBeRunAreErrors) {
  const auto error_with = [&](const std::function<void(TrainerOptions&)>& change,
                              const MeshVector& sizes = kOneRank) {
    const TrainerOptions good = options_;
    change(options_);
    const std::string error = ErrorOf(sizes);
    options_ = good;
    return error;
  };
  EXPECT_THAT(error_with([](auto& o) { o.engine.seq_len = 0; }), HasSubstr("seq_len is 0"));
  EXPECT_THAT(error_with([](auto& o) { o.engine.micro_batch = -1; }),
              HasSubstr("micro_batch is -1"));
  EXPECT_THAT(error_with([](auto& o) { o.engine.num_threads = 0; }), HasSubstr("num_threads is 0"));
  EXPECT_THAT(error_with([](auto& o) { o.engine.micro_batch = int64_t{1} << 40; }),
              HasSubstr("more than 2^31 tokens"));
  EXPECT_THAT(error_with([](auto& o) { o.engine.model.num_layers = 0; }), HasSubstr("the model: "));
  EXPECT_THAT(error_with([](auto& o) { o.schedule.total_steps = 0; }),
              HasSubstr("total_steps is 0"));
  EXPECT_THAT(error_with([](auto& o) { o.global_batch = 5; }),
              HasSubstr("global_batch 5 is not a multiple of micro_batch 2 times 1"));
  EXPECT_THAT(error_with([](auto& o) { o.global_batch = 2; }, kDp2),
              HasSubstr("times 2 data-parallel ranks"));
  EXPECT_THAT(error_with([](auto&) {}, {.dp = 1, .pp = 1, .cp = 1, .tp = 3}),
              HasSubstr("2 query heads"));
  EXPECT_THAT(error_with(
                  [](auto& o) {
                    o.engine.sequence_parallel = true;
                    o.engine.seq_len = 7;
                  },
                  kTp2),
              HasSubstr("sequences of 7 tokens over 2 ranks"));
  EXPECT_THAT(error_with([](auto& o) { o.eps = 0; }), HasSubstr("eps is 0"));
  EXPECT_THAT(error_with([](auto& o) { o.train_files = {}; }), HasSubstr("no training data"));
  EXPECT_THAT(error_with([](auto& o) { o.directory = ""; }), HasSubstr("no directory"));
  EXPECT_FALSE(std::filesystem::exists(options_.directory));
}

}  // namespace
}  // namespace strake
