#include "train/run/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numbers>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/fingerprint.h"
#include "core/base/monotonic_seconds.h"
#include "core/base/name_error.h"
#include "core/base/op_profile.h"
#include "core/base/path_kind.h"
#include "core/base/status_macros.h"
#include "core/base/time_of_day.h"
#include "core/device/context.h"
#include "core/device/cuda_op_profile.h"
#include "core/memory/activation_arena.h"
#include "core/ops/documents.h"
#include "data/blend.h"
#include "data/blend_loader.h"
#include "data/token_batch.h"
#include "data/tokenizer/formats/tokenizer_json_writer.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/checkpoint/model_files.h"
#include "models/families/families.h"
#include "models/families/family.h"
#include "models/generator.h"
#include "models/initialize.h"
#include "models/model_config.h"
#include "optim/lr_schedule.h"
#include "train/engine/mesh_wide.h"
#include "train/evaluation/choice_scores.h"
#include "train/evaluation/choice_task.h"
#include "train/evaluation/sequence_scorer.h"
#include "train/run/base_weights.h"
#include "train/run/checkpoint.h"
#include "train/run/manifest.h"
#include "train/run/prepared_data.h"
#include "train/run/run_data.h"
#include "train/run/run_record.h"
#include "train/run/run_saver.h"
#include "train/run/run_settings.h"
#include "train/run/run_start.h"

namespace strake {
namespace {

constexpr int64_t kEvalBatches = 32;  // of a validation while training
constexpr int64_t kLastEvalBatches = 320;
constexpr double kShareOfWarmup = 0.1;  // of the steps, at most, where it is limited
constexpr double kMaxSteps = 1e15;
constexpr int64_t kSampleTokens = 200;
constexpr int64_t kPromptTokens = 32;
constexpr double kSampleTemperature = 0.8;

Documents DocumentsOf(const TokenBatch& batch) {
  return {.positions = batch.positions, .lengths = batch.lengths};
}

}  // namespace

Trainer::Trainer(const TrainerOptions& options, const Mesh& mesh,
                 std::vector<TrainObserver*> observers)
    : options_(options), mesh_(mesh) {
  if (mesh.rank() == 0) observers_ = std::move(observers);
}

Trainer::~Trainer() = default;

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(const TrainerOptions& options,
                                                         const Mesh& mesh,
                                                         std::vector<TrainObserver*> observers) {
  std::unique_ptr<Trainer> trainer(new Trainer(options, mesh, std::move(observers)));
  STRAKE_RETURN_IF_ERROR(ResolveTrainerOptions(mesh.sizes(), &trainer->options_));
  STRAKE_RETURN_IF_ERROR(trainer->ChooseDataRules());
  STRAKE_RETURN_IF_ERROR(trainer->PrepareText());
  // The first rank goes first: an error of the data is then printed once.
  if (mesh.rank() == 0) {
    STRAKE_RETURN_IF_ERROR(
        trainer->TellWorkOf("scanning tokens", [&] { return trainer->OpenData(); }));
  }
  STRAKE_RETURN_IF_ERROR(MeshBarrier(mesh));
  if (mesh.rank() != 0) STRAKE_RETURN_IF_ERROR(trainer->OpenData());
  STRAKE_RETURN_IF_ERROR(trainer->MakeEngine());
  STRAKE_RETURN_IF_ERROR(trainer->OpenRun());
  return trainer;
}

absl::Status Trainer::Tell(absl::FunctionRef<absl::Status(TrainObserver&)> what) const {
  return TellAll(observers_, what);
}

absl::Status Trainer::Warn(const std::vector<std::string>& warnings) const {
  for (const std::string& warning : warnings) {
    STRAKE_RETURN_IF_ERROR(Tell([&](TrainObserver& o) { return o.OnWarning(warning); }));
  }
  return absl::OkStatus();
}

// Does the work, and tells of it from begin to end.
absl::Status Trainer::TellWorkOf(const std::string& what,
                                 absl::FunctionRef<absl::Status()> work) const {
  STRAKE_RETURN_IF_ERROR(TellWork(observers_, {.what = what}));
  STRAKE_RETURN_IF_ERROR(work());
  return TellWork(observers_);
}

// Work tells how far it is. Where an observer fails at that, it is told of the end, too.
OnWork Trainer::WorkTeller() const {
  return [this](const WorkState& work) { (void)TellWork(observers_, work); };
}

absl::Status Trainer::ChooseDataRules() {
  std::string rules;
  if (is_first_rank()) {
    const DataToGoOnWith data = FindDataToGoOnWith(options_);
    rules = absl::StrCat(static_cast<int>(data.rules));
    options_.chat_format = data.chat_format;
  }
  STRAKE_RETURN_IF_ERROR(BroadcastText(mesh_, &rules));
  data_rules_ = rules == "1" ? DataRules::kBytesAndEnd : DataRules::kDocuments;
  return absl::OkStatus();
}

absl::Status Trainer::OpenTokenizer() {
  STRAKE_ASSIGN_OR_RETURN(tokenizer_, OpenRunTokenizer(options_, CheckpointToGoOnWith(options_)));
  for (const std::string& note : tokenizer_.notes) {
    STRAKE_RETURN_IF_ERROR(Tell([&](TrainObserver& o) { return o.OnNote(note); }));
  }
  if (tokenizer_.unusable.ok()) return absl::OkStatus();
  const std::string warning =
      absl::StrCat(tokenizer_.unusable.message(), "; the run goes on without the tokenizer");
  return Tell([&](TrainObserver& o) { return o.OnWarning(warning); });
}

absl::Status Trainer::PrepareText() {
  if (is_first_rank() || !options_.eval_tasks.empty()) STRAKE_RETURN_IF_ERROR(OpenTokenizer());
  STRAKE_ASSIGN_OR_RETURN(tasks_, OpenTasks(options_, tokenizer_));
  options_.data_cache = DataCacheOf(options_);
  data_label_ = TrainingData::LabelOf(options_);
  STRAKE_RETURN_IF_ERROR(Warn(TrainingData::WarningsOfFiles(options_)));
  STRAKE_ASSIGN_OR_RETURN(prepared_,
                          PrepareData(mesh_, data_rules_, tokenizer_, observers_, &options_));
  return absl::OkStatus();
}

absl::Status Trainer::OpenData() {
  STRAKE_ASSIGN_OR_RETURN(data_,
                          TrainingData::Open(options_, {.rules = data_rules_,
                                                        .tokenizer = tokenizer_.tokenizer.get(),
                                                        .prepared = prepared_,
                                                        .label = data_label_}));
  for (const std::string& note : data_->notes()) {
    STRAKE_RETURN_IF_ERROR(Tell([&](TrainObserver& o) { return o.OnNote(note); }));
  }
  STRAKE_RETURN_IF_ERROR(SetStepsOfEpochs());
  STRAKE_RETURN_IF_ERROR(CheckEpochs());
  STRAKE_RETURN_IF_ERROR(CheckTracedSteps());
  return Warn(data_->Warnings());
}

absl::Status Trainer::SetStepsOfEpochs() {
  if (options_.epochs == 0) return absl::OkStatus();
  const double samples = options_.epochs * static_cast<double>(data_->train_loader().num_samples());
  const double steps = std::ceil(samples / static_cast<double>(options_.global_batch));
  if (steps > kMaxSteps) {
    return absl::InvalidArgumentError(
        absl::StrCat("[trainer] ", options_.epochs, " epochs are ", steps, " steps"));
  }
  LrSchedule& schedule = options_.schedule;
  schedule.total_steps = std::max<int64_t>(1, static_cast<int64_t>(steps));
  if (options_.limit_warmup) {
    const auto most = static_cast<int64_t>(kShareOfWarmup * static_cast<double>(steps));
    schedule.warmup_steps = std::min(schedule.warmup_steps, most);
  }
  return absl::OkStatus();
}

// The whole run's, whatever has been done of it.
absl::Status Trainer::CheckEpochs() const {
  const std::vector<std::string>& sources = data_->source_names();
  const OptionNames& names = options_.names;
  TrainerOptions limited = options_;
  // SetStepsOfEpochs() rounds up.
  if (options_.epochs > 0) --limited.schedule.total_steps;
  for (int i = 0; options_.max_epochs > 0 && i < data_->train_loader().num_sources(); ++i) {
    if (data_->Epochs(limited, i) <= options_.max_epochs) continue;
    const double epochs = data_->Epochs(options_, i);
    return absl::InvalidArgumentError(
        absl::StrCat(names.train_files, ": ", options_.schedule.total_steps, " steps are ", epochs,
                     " epochs of ", sources.empty() ? "the training data" : "source " + sources[i],
                     ", more than ", names.max_epochs, "=", options_.max_epochs, "; lower ",
                     options_.epochs > 0 ? names.epochs : names.steps,
                     sources.empty() ? "" : " or the weight of the source", ", raise ",
                     names.max_epochs, ", or add data"));
  }
  return absl::OkStatus();
}

absl::Status Trainer::CheckTracedSteps() const {
  const int64_t first = options_.first_traced_step, last = options_.last_traced_step;
  const int64_t steps = options_.schedule.total_steps;
  if ((first == 0 && last == 0) || (first >= 1 && first <= last && last <= steps)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(options_.names.trace_steps, "=", first, "..", last,
                                                 ": the run has the steps 1..", steps,
                                                 "; choose among them"));
}

absl::Status Trainer::MakeEngine() {
  if (!data_->source_names().empty()) {
    options_.engine.step_sequences = options_.global_batch / mesh_.sizes().dp;
  }
  options_.engine.documents = data_->has_documents();
  STRAKE_ASSIGN_OR_RETURN(engine_, Engine::Create(options_.engine, mesh_));
  first_touch_ = std::make_unique<FirstTouch>(engine_->HostArrays(), engine_->team().num_threads());
  const Shape shape = {options_.engine.micro_batch * local_seq_len()};
  tokens_ = TensorBuffer(DType::kI32, shape);
  targets_ = TensorBuffer(DType::kI32, shape);
  if (data_->has_documents()) positions_ = TensorBuffer(DType::kI32, shape);
  STRAKE_ASSIGN_OR_RETURN(saver_, RunSaver::Create(options_, mesh_, *engine_, observers_));
  const absl::StatusOr<PathKind> record = PathKindOf(options_.directory + "/run.json");
  const TrainPlan plan = {.options = options_,
                          .mesh = mesh_,
                          .memory = engine_->memory_plan(),
                          .snapshot_bytes = saver_->snapshot_bytes(),
                          .data = *data_,
                          .attention_note = engine_->attention_note(),
                          .communicators = engine_->communicators(),
                          .holds_run = record.ok() && *record != PathKind::kNothing};
  return Tell([&](TrainObserver& o) { return o.OnPlan(plan); });
}

RunRecord Trainer::Record() const {
  RunRecord record = *start_record_;
  record.step = step_;
  record.samples = samples_;
  record.due = due_;
  return record;
}

// What can be done about a damaged checkpoint of the run.
std::string Trainer::NewestGoodInstead() const {
  const auto steps = ListCheckpoints(options_.directory);
  if (!steps.ok()) return "";
  const auto good = NewestGoodCheckpoint(options_.directory, *steps, /*damaged=*/nullptr);
  if (!good.has_value()) return "";
  return absl::StrCat(". The newest good checkpoint is ", *good, "; ", options_.names.resume,
                      "=newest_good takes it");
}

// Each rank reads its share.
absl::Status Trainer::VerifyFiles(const std::string& checkpoint) const {
  const int num_ranks = mesh_.num_ranks();
  const absl::Status verified = VerifyCheckpoint(checkpoint, mesh_.rank(), num_ranks, WorkTeller());
  if (absl::IsDataLoss(verified)) {
    return absl::DataLossError(absl::StrCat(verified.message(), NewestGoodInstead()));
  }
  if (!absl::IsNotFound(verified)) return verified;
  const std::string warning =
      absl::StrCat(checkpoint, " has no manifest.json: whether its files are whole is not known");
  return Tell([&](TrainObserver& o) { return o.OnWarning(warning); });
}

// Other programs' models have no record of a run.
absl::Status Trainer::VerifyModel(const std::string& directory) const {
  STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(directory + "/run.json"));
  return kind == PathKind::kNothing ? absl::OkStatus() : VerifyFiles(directory);
}

absl::Status Trainer::LoadModelWeights(ParameterArena& parameters) const {
  STRAKE_RETURN_IF_ERROR(VerifyModel(options_.init_from));
  return LoadWeights(options_.init_from, *options_.engine.model.family, parameters, WorkTeller());
}

absl::Status Trainer::LoadFirstAdapter(ParameterArena& adapters) const {
  const std::string& directory = options_.init_adapter;
  STRAKE_RETURN_IF_ERROR(VerifyModel(directory));
  STRAKE_RETURN_IF_ERROR(NameError(
      options_.names.init_from, CheckBaseOfAdapter(directory, options_.init_from,
                                                   start_record_->identity.at(kBaseWeightsKey))));
  return LoadAdapter(directory, adapters, {{/*suffix=*/"", adapters.values()}}, WorkTeller());
}

absl::Status Trainer::SetFirstWeights() {
  ParameterArena& parameters = engine_->parameters();
  if (!options_.init_adapter.empty()) return LoadFirstAdapter(parameters);
  if (options_.init_from.empty() || engine_->base() != nullptr) {
    return InitializeParameters(options_.seed, engine_->team(), &parameters);
  }
  return LoadModelWeights(parameters);
}

absl::Status Trainer::SetWeights(const std::string& checkpoint) {
  if (engine_->base() != nullptr) STRAKE_RETURN_IF_ERROR(LoadModelWeights(*engine_->base()));
  if (!checkpoint.empty()) {
    STRAKE_RETURN_IF_ERROR(VerifyFiles(checkpoint));
    return LoadCheckpoint(checkpoint, *engine_, WorkTeller());
  }
  STRAKE_RETURN_IF_ERROR(SetFirstWeights());
  return engine_->optimizer().SetMasters();
}

// The first rank reads the frozen weights once more. CompareReplicas() finds ranks that have
// others.
absl::StatusOr<std::string> Trainer::FrozenChecksum() const {
  std::string checksum;
  if (!options_.engine.model.lora.enabled()) return checksum;
  if (is_first_rank()) {
    STRAKE_ASSIGN_OR_RETURN(checksum,
                            BaseChecksum(options_.init_from, options_.engine.model,
                                         RenameWork("checking the frozen weights", WorkTeller())));
  }
  STRAKE_RETURN_IF_ERROR(BroadcastText(mesh_, &checksum));
  return checksum;
}

// Reads what checkpoints carry from the checkpoint, or where a model's run begins.
absl::Status Trainer::ReadCarried(const std::string& checkpoint) {
  std::vector<std::string> directories = {checkpoint}, skipped;
  if (checkpoint.empty()) directories = {options_.init_adapter, options_.init_from};
  for (const std::string& directory : directories) {
    if (directory.empty()) continue;
    STRAKE_ASSIGN_OR_RETURN(CarriedFiles files, ReadCarriedFiles(directory, &skipped));
    carried_.merge(files);
  }
  if (checkpoint.empty() && !options_.tokenizer.empty() && tokenizer_.tokenizer != nullptr) {
    std::erase_if(carried_, [](const auto& file) { return IsOfTokenizer(file.first); });
    STRAKE_ASSIGN_OR_RETURN(CarriedFiles tokenizer,
                            ReadTokenizerFiles(options_.tokenizer, *tokenizer_.tokenizer));
    carried_.merge(tokenizer);
  }
  for (const std::string& text : skipped) {
    STRAKE_RETURN_IF_ERROR(Tell([&](TrainObserver& o) { return o.OnWarning(text); }));
  }
  if (data_->is_of_bytes() && !CarriesTokenizer(carried_)) carried_.merge(ByteTokenizerFiles());
  return absl::OkStatus();
}

// Waits for the memory whose pages have been asked for since the engine was made: the first step
// would otherwise wait for them, on one thread of its own.
absl::Status Trainer::WaitForMemory() {
  while (!first_touch_->done() && !StopRequested()) {
    STRAKE_RETURN_IF_ERROR(Tell([&](TrainObserver& o) {
      return o.OnMemory(first_touch_->done_bytes(), first_touch_->total_bytes());
    }));
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  first_touch_.reset();
  return absl::OkStatus();
}

// Files that are whole may still have been written or read from damaged memory, or into the wrong
// places.
absl::Status Trainer::CompareFingerprint(const RunStart& start) const {
  if (start.fingerprint.empty()) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(const Fingerprint loaded, engine_->StateFingerprint());
  if (loaded.ToString() == start.fingerprint) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      start.checkpoint, ": the weights and the optimizer's state have the fingerprint ",
      loaded.ToString(), ", and had ", start.fingerprint,
      " when they were saved; to resume from the checkpoint before, rename this one"));
}

absl::Status Trainer::OpenRun() {
  std::string base_weights;
  STRAKE_RETURN_IF_ERROR(TellWorkOf("checking the frozen weights", [&]() -> absl::Status {
    STRAKE_ASSIGN_OR_RETURN(base_weights, FrozenChecksum());
    return absl::OkStatus();
  }));
  TrainerOptions identified = options_;
  identified.documents = data_->documents();
  STRAKE_RETURN_IF_ERROR(TellWork(observers_, {.what = "identifying the tokens"}));
  start_record_ = std::make_unique<RunRecord>(RunRecord{
      .identity =
          IdentityOf(identified, data_->Fingerprint(engine_->team()), data_->rules(), base_weights),
      .config = ConfigOf(options_, mesh_.sizes()),
      .data_time = data_->TimeOfSampledFiles()});
  STRAKE_RETURN_IF_ERROR(TellWork(observers_));
  const nlohmann::ordered_json& identity = start_record_->identity;
  nlohmann::ordered_json shared = SharedSettings(start_record_->config, identity);
  shared["trace_steps"] = absl::StrCat(options_.first_traced_step, "..", options_.last_traced_step);
  STRAKE_RETURN_IF_ERROR(CheckSameOnAllRanks(mesh_, shared));
  RunStart start;
  if (is_first_rank()) {
    const auto data_like = [&](const std::string& recorded) {
      return data_->FingerprintLike(recorded, engine_->team());
    };
    STRAKE_RETURN_IF_ERROR(TellWorkOf("finding where to resume", [&]() -> absl::Status {
      STRAKE_ASSIGN_OR_RETURN(start,
                              FindRunStart(options_, *start_record_, data_like, &directory_));
      return absl::OkStatus();
    }));
  }
  STRAKE_RETURN_IF_ERROR(Warn(start.warnings));
  STRAKE_RETURN_IF_ERROR(ShareRunStart(mesh_, &start));
  step_ = start.step;
  samples_ = start.samples;
  due_ = start.due;
  damaged_ = start.damaged;
  held_run_ = start.held_run;
  const bool reads = !start.checkpoint.empty() || !options_.init_from.empty();
  STRAKE_RETURN_IF_ERROR(TellWorkOf(reads ? "reading weights" : "making weights",
                                    [&] { return SetWeights(start.checkpoint); }));
  if (is_first_rank()) STRAKE_RETURN_IF_ERROR(ReadCarried(start.checkpoint));
  STRAKE_RETURN_IF_ERROR(TellWorkOf("comparing weights", [&]() -> absl::Status {
    STRAKE_RETURN_IF_ERROR(engine_->CompareReplicas());
    return CompareFingerprint(start);
  }));
  STRAKE_RETURN_IF_ERROR(WaitForMemory());
  STRAKE_RETURN_IF_ERROR(MeshBarrier(mesh_));
  RunRecord record = Record();
  record.fingerprint = start.fingerprint;
  if (is_first_rank()) STRAKE_RETURN_IF_ERROR(StartRun(record));
  if (start.saved_step > 0) saver_->SetSaved(std::move(record));
  return absl::OkStatus();
}

absl::Status Trainer::StartRun(const RunRecord& record) {
  STRAKE_RETURN_IF_ERROR(ClaimDirectory(options_, &directory_));
  for (const int64_t step : damaged_) STRAKE_RETURN_IF_ERROR(directory_->SetAside(step));
  STRAKE_RETURN_IF_ERROR(Tell([&](TrainObserver& o) {
    return o.OnStart({.directory = options_.directory,
                      .step = step_,
                      .evaluates = due_.evaluation,
                      .makes_sample = due_.sample,
                      .held_run = held_run_});
  }));
  return saver_->SetDirectory(*std::move(directory_), std::move(carried_), record);
}

// Those of every sequence that this rank holds.
SequenceChunks Trainer::chunks() const {
  return {.rank = mesh_.coordinates().cp, .num_ranks = mesh_.sizes().cp};
}

int64_t Trainer::local_seq_len() const { return chunks().NumLocal(options_.engine.seq_len); }

// The memory of this rank's tokens of `count` sequences.
TokenBatch Trainer::Batch(int64_t count) const {
  const int64_t num_tokens = count * local_seq_len();
  TokenBatch batch = {.tokens = tokens_.tensor().Rows(0, num_tokens),
                      .targets = targets_.tensor().Rows(0, num_tokens)};
  if (data_->has_documents()) batch.positions = positions_.tensor().Rows(0, num_tokens);
  return batch;
}

// Runs this rank's micro-batches of the step. Gradients are those of the sum of the losses over all
// tokens of the global batch; Update() makes it the mean over targets.
absl::Status Trainer::AccumulateGradients() {
  const int64_t micro_batch = options_.engine.micro_batch;
  const double num_tokens = double(options_.global_batch) * options_.engine.seq_len;
  const int64_t per_pass = micro_batch * mesh_.sizes().dp;
  const int64_t mine = micro_batch * mesh_.coordinates().dp;
  TokenBatch batch = Batch(micro_batch);
  for (int64_t done = 0; done < options_.global_batch; done += per_pass) {
    {
      const ProfileSpan span(profile(), {.category = "io", .name = "load batch"});
      STRAKE_RETURN_IF_ERROR(
          data_->train_loader().Load(samples_ + done + mine, micro_batch, &batch, chunks()));
    }
    const bool last = done + per_pass >= options_.global_batch;
    STRAKE_RETURN_IF_ERROR(engine_->AccumulateGradients(batch.tokens, batch.targets, 1 / num_tokens,
                                                        last, DocumentsOf(batch)));
  }
  const ProfileSpan span(profile(), {.category = "phase", .name = "sum gradients"});
  return engine_->SumGradients();
}

// The sums of the losses of each source's samples, of this data-parallel rank in the step.
std::vector<double> Trainer::SourceLosses() const {
  std::vector<double> losses(data_->source_names().size());
  if (losses.empty()) return losses;
  const int64_t micro_batch = options_.engine.micro_batch, dp = mesh_.sizes().dp;
  const Blend& blend = data_->train_loader().blend();
  const absl::Span<const double> of_sequences = engine_->SequenceLosses();
  for (size_t i = 0; i < of_sequences.size(); ++i) {
    // Ranks take turns, with a micro-batch each.
    const int64_t pass = i / micro_batch * dp + mesh_.coordinates().dp;
    losses[blend.At(samples_ + pass * micro_batch + i % micro_batch).source] += of_sequences[i];
  }
  return losses;
}

// Of the step at samples_, with the losses of all ranks.
std::vector<SourceMetrics> Trainer::SourceMetricsOf(const std::vector<double>& losses) const {
  const BlendLoader& loader = data_->train_loader();
  std::vector<int64_t> samples(losses.size()), targets(losses.size());
  for (int64_t i = 0; !losses.empty() && i < options_.global_batch; ++i) {
    const int source = loader.blend().At(samples_ + i).source;
    ++samples[source];
    targets[source] += loader.NumTargets(samples_ + i, 1);
  }
  std::vector<SourceMetrics> metrics;
  for (size_t source = 0; source < losses.size(); ++source) {
    if (samples[source] == 0) continue;
    metrics.push_back({.name = data_->source_names()[source],
                       .tokens = samples[source] * options_.engine.seq_len,
                       .targets = targets[source],
                       .loss = losses[source] / double(targets[source])});
  }
  return metrics;
}

// The engine returns Internal for values that are not finite.
absl::Status Trainer::NameStep(int64_t step, const absl::Status& status) const {
  std::string message = absl::StrCat("step ", step, ": ", status.message());
  if (status.code() == absl::StatusCode::kInternal) {
    absl::StrAppend(&message, "; stopped. ", saver_->LastCheckpoint());
  }
  return absl::Status(status.code(), message);
}

bool Trainer::StopRequested() const {
  return options_.stop_requested != nullptr && options_.stop_requested();
}

bool Trainer::IsDue(int64_t every) const {
  return every > 0 && (step_ % every == 0 || step_ == options_.schedule.total_steps);
}

absl::Status Trainer::Step() {
  const double start = MonotonicSeconds();
  const int64_t step = step_ + 1;
  const int64_t num_tokens = options_.global_batch * options_.engine.seq_len;
  int64_t num_targets = 0;
  {
    const ProfileSpan span(profile(), {.category = "io", .name = "count targets"});
    num_targets = data_->train_loader().NumTargets(samples_, options_.global_batch);
  }
  const absl::Status accumulated = AccumulateGradients();
  if (!accumulated.ok()) return NameStep(step, accumulated);
  const double lr = LearningRate(options_.schedule, step);
  std::optional<ProfileSpan> span;
  span.emplace(profile(), SpanLabel{.category = "phase", .name = "update"});
  const auto norm = engine_->Update({.lr = lr,
                                     .beta1 = options_.beta1,
                                     .beta2 = options_.beta2,
                                     .eps = options_.eps,
                                     .weight_decay = options_.weight_decay,
                                     .step = step},
                                    options_.clip_norm,
                                    double(num_tokens) / double(std::max<int64_t>(1, num_targets)));
  if (!norm.ok()) return NameStep(step, norm.status());
  span.reset();
  span.emplace(profile(), SpanLabel{.category = "phase", .name = "agree"});
  std::vector<double> losses = SourceLosses();
  const auto agreement = engine_->Agree(StopRequested(), absl::MakeSpan(losses));
  if (!agreement.ok()) return NameStep(step, agreement.status());
  span.reset();
  span.emplace(profile(), SpanLabel{.category = "io", .name = "log"});
  std::vector<SourceMetrics> sources = SourceMetricsOf(losses);
  stop_ = agreement->stop;
  step_ = step;
  samples_ += options_.global_batch;
  due_ = {.evaluation = options_.eval_batches != 0 && IsDue(options_.eval_every),
          .sample = IsDue(options_.sample_every)};
  const double seconds = MonotonicSeconds() - start;
  const double all_samples = static_cast<double>(data_->train_loader().num_samples());
  const StepMetrics metrics = {.step = step,
                               .loss = agreement->loss_sum / double(num_targets),
                               .lr = lr,
                               .grad_norm = *norm,
                               .tokens = num_tokens,
                               .targets = num_targets,
                               .seconds = seconds,
                               .tokens_per_second = num_tokens / seconds,
                               .time = std::round(TimeOfDay() * 1e3) / 1e3,  // whole milliseconds
                               .epoch = static_cast<double>(samples_) / all_samples,
                               .mfu = Mfu(num_tokens / seconds),
                               .sources = std::move(sources)};
  return Tell([&](TrainObserver& o) { return o.OnStep(metrics); });
}

double Trainer::Mfu(double tokens_per_second) const {
  if (options_.peak_flops == 0) return 0;
  const EngineOptions& engine = options_.engine;
  return TrainingFlopsPerToken(engine.model, engine.seq_len) * tokens_per_second /
         options_.peak_flops;
}

// The samples of a validation.
int64_t Trainer::NumEvalSamples(const DataLoader& loader) const {
  const int64_t micro_batch = options_.engine.micro_batch, all = loader.num_samples();
  int64_t batches = options_.eval_batches;
  if (batches < 0) {
    batches = step_ == options_.schedule.total_steps ? kLastEvalBatches : kEvalBatches;
  }
  return batches > all / micro_batch ? all : batches * micro_batch;
}

// Returns nothing where a rank was asked to stop.
absl::StatusOr<std::optional<EvalMetrics>> Trainer::EvaluateOn(const ValidationData& validation) {
  const int64_t micro_batch = options_.engine.micro_batch;
  const int64_t num_samples = NumEvalSamples(*validation.loader);
  const int64_t num_targets = validation.loader->NumTargets(0, num_samples);
  const std::string what =
      validation.name.empty() ? "validating" : "validating on " + validation.name;
  // The data-parallel ranks take turns, so that the samples do not depend on their number.
  const int64_t first = micro_batch * mesh_.coordinates().dp;
  const int64_t per_pass = micro_batch * mesh_.sizes().dp;
  for (int64_t done = 0; done < num_samples; done += per_pass) {
    if (done > 0) {
      STRAKE_ASSIGN_OR_RETURN(stop_, AnyRank(mesh_, StopRequested()));
      if (stop_) break;
    }
    STRAKE_RETURN_IF_ERROR(TellWork(observers_, {.what = what,
                                                 .done = static_cast<double>(done),
                                                 .total = static_cast<double>(num_samples),
                                                 .unit = WorkUnit::kCount}));
    const int64_t i = done + first;
    if (i >= num_samples) continue;
    const int64_t count = std::min(micro_batch, num_samples - i);
    TokenBatch batch = Batch(count);
    STRAKE_RETURN_IF_ERROR(validation.loader->Load(i, count, &batch, chunks()));
    const absl::Status added =
        engine_->EvaluateLoss(batch.tokens, batch.targets, DocumentsOf(batch));
    if (!added.ok()) return NameStep(step_, added);
  }
  const auto whole = engine_->Agree(/*stop=*/false);
  if (!whole.ok()) return NameStep(step_, whole.status());
  if (stop_) return std::nullopt;
  EvalMetrics metrics = {.step = step_,
                         .name = validation.name,
                         .val_loss = whole->loss_sum / double(num_targets),
                         .num_samples = num_samples,
                         .all_samples = validation.loader->num_samples()};
  // Of bytes, one number says it all, unless it is compared with those of other models.
  if (is_first_rank() && !(data_->is_of_bytes() && validation.name.empty())) {
    STRAKE_ASSIGN_OR_RETURN(const int64_t bytes, data_->NumTargetBytes(validation, num_samples));
    if (bytes > 0) metrics.bits_per_byte = whole->loss_sum / std::numbers::ln2 / double(bytes);
  }
  return metrics;
}

// Returns nothing where a rank was asked to stop.
absl::StatusOr<std::optional<TaskMetrics>> Trainer::ScoreTask(const ChoiceTask& task) {
  const auto ask = [&]() -> absl::StatusOr<bool> {
    STRAKE_ASSIGN_OR_RETURN(stop_, AnyRank(mesh_, StopRequested()));
    return stop_;
  };
  SequenceScorer scorer(
      engine_->context(), engine_->model_parts(), mesh_,
      {.pass_tokens = options_.engine.micro_batch * local_seq_len(), .stop = ask});
  STRAKE_RETURN_IF_ERROR(TellWork(observers_, {.what = absl::StrCat("answering ", task.name)}));
  const auto scores = ScoreChoices(scorer, task);
  if (stop_) return std::nullopt;
  if (!scores.ok()) return NameStep(step_, scores.status());
  return TaskMetrics{.step = step_,
                     .name = task.name,
                     .acc = scores->acc,
                     .acc_norm = scores->acc_norm,
                     .num_examples = static_cast<int64_t>(task.examples.size())};
}

absl::Status Trainer::Evaluate() {
  std::vector<EvalMetrics> all;
  std::vector<TaskMetrics> of_tasks;
  if (options_.eval_batches != 0) {
    for (const ValidationData& validation : data_->validation()) {
      if (!all.empty()) {
        STRAKE_ASSIGN_OR_RETURN(stop_, AnyRank(mesh_, StopRequested()));
        if (stop_) return absl::OkStatus();
      }
      STRAKE_ASSIGN_OR_RETURN(const std::optional<EvalMetrics> metrics, EvaluateOn(validation));
      if (!metrics.has_value()) return absl::OkStatus();
      all.push_back(*metrics);
    }
  }
  for (const ChoiceTask& task : tasks_) {
    if (options_.eval_batches == 0) break;
    STRAKE_ASSIGN_OR_RETURN(const std::optional<TaskMetrics> metrics, ScoreTask(task));
    if (!metrics.has_value()) return absl::OkStatus();
    of_tasks.push_back(*metrics);
  }
  due_.evaluation = false;
  for (const EvalMetrics& metrics : all) {
    STRAKE_RETURN_IF_ERROR(Tell([&](TrainObserver& o) { return o.OnEvaluation(metrics); }));
  }
  for (const TaskMetrics& metrics : of_tasks) {
    STRAKE_RETURN_IF_ERROR(Tell([&](TrainObserver& o) { return o.OnTask(metrics); }));
  }
  return absl::OkStatus();
}

// The ranks that share the model generate the same text, each with its part. Returns nothing where
// a rank of them was asked to stop.
absl::StatusOr<std::optional<TrainSample>> Trainer::Generate() {
  const int64_t seq_len = options_.engine.seq_len;
  const int64_t num_prompt = std::clamp<int64_t>(seq_len / 2, 1, kPromptTokens);
  const int64_t count = std::min(kSampleTokens, seq_len - num_prompt);
  STRAKE_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt, data_->FirstValTokens(num_prompt));
  const ModelParts model = engine_->model_parts();
  const size_t bytes = GenerationBytes(engine_->context(), model, prompt.size(), count);
  STRAKE_ASSIGN_OR_RETURN(ActivationArena arena,
                          ActivationArena::Create(bytes, engine_->options().device));
  Context ctx(&engine_->team(), &arena, engine_->options().op_set);
  ctx.set_cuda(engine_->cuda());
  std::vector<int32_t> continuation;
  bool interrupted = false;
  const SamplingOptions sampling = {.temperature = kSampleTemperature,
                                    .seed = static_cast<uint64_t>(options_.seed + step_)};
  const auto take = [&](int64_t token) -> absl::Status {
    continuation.push_back(static_cast<int32_t>(token));
    interrupted = StopRequested();
    for (const MeshAxis axis : {MeshAxis::kPp, MeshAxis::kCp, MeshAxis::kTp}) {
      STRAKE_ASSIGN_OR_RETURN(interrupted, AnyRank(mesh_.communicator(axis), interrupted));
    }
    return interrupted ? absl::CancelledError("asked to stop") : absl::OkStatus();
  };
  const absl::Status generated = GenerateTokens(ctx, model, prompt, count, sampling, take);
  if (interrupted) return std::nullopt;
  STRAKE_RETURN_IF_ERROR(generated);
  return TrainSample{.step = step_,
                     .is_text = data_->has_text(),
                     .prompt = data_->ToText(prompt),
                     .continuation = data_->ToText(continuation, prompt)};
}

absl::Status Trainer::Sample() {
  std::optional<TrainSample> sample;
  const bool generates = mesh_.coordinates().dp == 0;
  if (generates) {
    STRAKE_ASSIGN_OR_RETURN(sample, Generate());
  }
  STRAKE_ASSIGN_OR_RETURN(stop_, AnyRank(mesh_, generates && !sample.has_value()));
  if (stop_) return absl::OkStatus();
  due_.sample = false;
  return Tell([&](TrainObserver& o) { return o.OnSample(*sample); });
}

absl::Status Trainer::DoWhatIsDue() {
  // A data-parallel rank may have nothing to evaluate, and only the first ones generate.
  if (due_.any() && !stop_) {
    const ProfileSpan span(profile(), {.category = "phase", .name = "gather weights"});
    STRAKE_RETURN_IF_ERROR(engine_->GatherWeights());
  }
  if (due_.evaluation && !stop_) {
    const ProfileSpan span(profile(), {.category = "phase", .name = "evaluate"});
    STRAKE_RETURN_IF_ERROR(Evaluate());
    STRAKE_RETURN_IF_ERROR(TellWork(observers_));
  }
  if (due_.sample && !stop_) {
    const ProfileSpan span(profile(), {.category = "phase", .name = "sample"});
    STRAKE_RETURN_IF_ERROR(TellWorkOf("generating a sample", [&] { return Sample(); }));
  }
  const ProfileSpan span(profile(), {.category = "io", .name = "note"});
  return saver_->Note(step_, due_);
}

absl::StatusOr<TrainEnd> Trainer::End(TrainEnd::Reason reason) const {
  const TrainEnd end = {
      .reason = reason, .step = step_, .num_steps = options_.schedule.total_steps};
  STRAKE_RETURN_IF_ERROR(Tell([&](TrainObserver& o) { return o.OnEnd(end); }));
  return end;
}

// The second step, when memory and caches are warm, or where that is traced, the one after these.
int64_t Trainer::StepToMeasure() const {
  const int64_t step = std::min(step_ + 2, options_.schedule.total_steps);
  const bool traced = options_.first_traced_step <= step && step <= options_.last_traced_step;
  return traced ? options_.last_traced_step + 1 : step;
}

// Measures on all ranks, so that none of them has a CUDA graph in this step.
absl::Status Trainer::MeasuredStep() {
  OpProfile of_host;
  std::optional<CudaOpProfile> of_gpu;
  if (engine_->cuda() != nullptr) of_gpu.emplace(engine_->cuda()->stream());
  OpProfile* const profile = of_gpu.has_value() ? &*of_gpu : &of_host;
  const double start = MonotonicSeconds();
  engine_->set_profile(profile);
  const absl::Status done = Step();
  engine_->set_profile(nullptr);
  STRAKE_RETURN_IF_ERROR(done);
  if (of_gpu.has_value()) STRAKE_RETURN_IF_ERROR(of_gpu->Resolve());
  const StepOps ops = {
      .step = step_, .seconds = MonotonicSeconds() - start, .ops = profile->entries()};
  return Tell([&](TrainObserver& o) { return o.OnOps(ops); });
}

absl::Status Trainer::StepAndWhatFollows() {
  STRAKE_RETURN_IF_ERROR(step_ + 1 == measured_step_ ? MeasuredStep() : Step());
  {
    const ProfileSpan span(profile(), {.category = "io", .name = "save"});
    STRAKE_RETURN_IF_ERROR(saver_->EndIfWritten(step_, due_));
    // First, so that nothing is lost while the rest takes its time.
    const bool last = step_ == options_.schedule.total_steps;
    STRAKE_ASSIGN_OR_RETURN(const bool save,
                            saver_->TimeToSave(IsDue(options_.save_every) || last));
    if (save) STRAKE_RETURN_IF_ERROR(saver_->Save(Record()));
  }
  return DoWhatIsDue();
}

absl::Status Trainer::StartTrace() {
  const int64_t first = options_.first_traced_step, last = options_.last_traced_step;
  if (last == 0) return absl::OkStatus();
  if (step_ >= last) {
    const std::string note = absl::StrCat(options_.names.trace_steps, "=", first, "..", last,
                                          ": no trace, since the run goes on after step ", step_);
    return Tell([&](TrainObserver& o) { return o.OnNote(note); });
  }
  STRAKE_ASSIGN_OR_RETURN(trace_, RunTrace::Create(first, last, mesh_, *engine_));
  saver_->set_profile(trace_->saver());
  return absl::OkStatus();
}

// A run that cannot write its trace goes on.
absl::Status Trainer::WriteTrace(bool ended) {
  if (trace_ == nullptr || !trace_->IsReady(step_, ended)) return absl::OkStatus();
  saver_->set_profile(nullptr);
  STRAKE_ASSIGN_OR_RETURN(const TraceFile file, trace_->Write(options_.directory));
  if (!file.status.ok()) {
    return Warn({absl::StrCat("no trace: ", file.status.message(), "; the run goes on")});
  }
  std::string note = absl::StrCat("the trace is ", file.path, ", for ui.perfetto.dev");
  if (file.is_cut) {
    absl::StrAppend(&note, "; ranks have no slices after their first ", file.max_slices,
                    ": trace fewer steps");
  }
  return Tell([&](TrainObserver& o) { return o.OnNote(note); });
}

absl::StatusOr<TrainEnd> Trainer::Run() {
  const int64_t num_steps = options_.schedule.total_steps;
  if (step_ >= num_steps && !due_.any()) return End(TrainEnd::Reason::kNothingToDo);
  STRAKE_ASSIGN_OR_RETURN(stop_, AnyRank(mesh_, StopRequested()));
  STRAKE_RETURN_IF_ERROR(StartTrace());
  measured_step_ = StepToMeasure();
  STRAKE_RETURN_IF_ERROR(DoWhatIsDue());
  while (step_ < num_steps && !stop_) {
    if (trace_ != nullptr) STRAKE_RETURN_IF_ERROR(trace_->BeginStep(step_ + 1));
    STRAKE_RETURN_IF_ERROR(StepAndWhatFollows());
    if (trace_ != nullptr) STRAKE_RETURN_IF_ERROR(trace_->EndStep(step_));
    STRAKE_RETURN_IF_ERROR(WriteTrace(/*ended=*/stop_));
  }
  STRAKE_RETURN_IF_ERROR(saver_->Finish(Record()));
  const bool complete = step_ >= num_steps && !due_.any();
  return End(complete ? TrainEnd::Reason::kLastStep : TrainEnd::Reason::kStopRequested);
}

}  // namespace strake
