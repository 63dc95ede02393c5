#include "train/run/trainer.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/durable_file.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/families/families.h"
#include "models/families/family.h"
#include "models/generator.h"
#include "models/initialize.h"
#include "optim/lr_schedule.h"
#include "tools/cli/layout.h"
#include "tools/cli/machine.h"
#include "tools/cli/stop_signal.h"
#include "train/engine/engine_options.h"
#include "train/engine/mesh_wide.h"
#include "train/run/checkpoint.h"
#include "train/run/run_start.h"

namespace strake {
namespace {

constexpr int64_t kEvalBatches = 32;  // of a validation while training
constexpr int64_t kSampleTokens = 200;
constexpr int64_t kPromptTokens = 32;
constexpr double kSampleTemperature = 0.8;

// "tp 2 x dp 2 = 4 ranks (threads), sequence parallel, ZeRO 1".
std::string LayoutText(const LayoutConfig& layout) {
  return absl::StrCat("tp ", layout.tp, " x dp ", layout.dp, " = ", layout.num_ranks(), " ranks (",
                      layout.comm, ")", layout.sequence_parallel ? ", sequence parallel" : "",
                      layout.zero > 0 ? absl::StrCat(", ZeRO ", layout.zero) : "");
}

// What makes a run this run; see RunRecord.
nlohmann::ordered_json IdentityOf(const TrainConfig& config, const ModelConfig& model,
                                  const TrainingData& data) {
  const nlohmann::ordered_json all = ToJson(config);
  nlohmann::ordered_json identity;
  identity["model"] = nlohmann::ordered_json::parse(ToHfConfig(model));
  identity["train_data"] = data.Fingerprint();
  for (const char* key : {"seed", "shuffle", "seq_len", "global_batch", "lr", "min_lr", "schedule",
                          "warmup_steps", "weight_decay", "beta1", "beta2", "eps", "clip_norm"}) {
    identity[key] = all.at(key);
  }
  return identity;
}

// What all ranks must have been given alike: all but threads, which differ between machines, and
// where files lie.
nlohmann::ordered_json SharedSettings(const TrainConfig& config,
                                      const nlohmann::ordered_json& identity) {
  nlohmann::ordered_json settings = ToJson(config);
  for (const char* key : {"threads", "out", "train_data", "val_data", "init_from", "model"}) {
    settings.erase(key);
  }
  settings.update(identity);
  return settings;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(const TrainCommand& command,
                                                         const Mesh& mesh, Progress* screen) {
  std::unique_ptr<Trainer> trainer(new Trainer(command, mesh, screen));
  for (const std::string& notice : command.notices) screen->Print("note: " + notice);
  // The first rank first: what is wrong with the data is then told once.
  if (mesh.rank() == 0) STRAKE_RETURN_IF_ERROR(trainer->OpenData());
  STRAKE_RETURN_IF_ERROR(MeshBarrier(mesh));
  if (mesh.rank() != 0) STRAKE_RETURN_IF_ERROR(trainer->OpenData());
  STRAKE_RETURN_IF_ERROR(trainer->MakeEngine());
  // Before the weights are made or read, which takes a large model a while.
  trainer->PrintHeader();
  STRAKE_RETURN_IF_ERROR(trainer->OpenRun());
  return trainer;
}

absl::Status Trainer::OpenData() {
  STRAKE_ASSIGN_OR_RETURN(data_, TrainingData::Open(config_, model_.vocab_size));
  for (const std::string& path : data_->CommonFiles()) {
    screen_->Print(absl::StrCat("warning: ", path,
                                " is in --train_data and in --val_data: the validation "
                                "loss will be of text that was trained on"));
  }
  return absl::OkStatus();
}

absl::Status Trainer::MakeEngine() {
  STRAKE_ASSIGN_OR_RETURN(engine_, Engine::Create(EngineOptionsOf(config_, model_), mesh_));
  const Shape shape = {config_.micro_batch * config_.seq_len};
  tokens_ = TensorBuffer(DType::kI32, shape);
  targets_ = TensorBuffer(DType::kI32, shape);
  return absl::OkStatus();
}

RunRecord Trainer::Record() const { return {step_, samples_, identity_, ToJson(config_)}; }

absl::Status Trainer::SetWeights(const std::string& checkpoint) {
  if (!checkpoint.empty()) return LoadCheckpoint(checkpoint, *engine_);
  ParameterArena& parameters = engine_->parameters();
  STRAKE_RETURN_IF_ERROR(config_.init_from.empty()
                             ? InitializeParameters(config_.seed, engine_->team(), &parameters)
                             : LoadWeights(config_.init_from, *model_.family, parameters));
  return engine_->optimizer().SetMasters();
}

absl::Status Trainer::OpenRun() {
  RunStart start;
  identity_ = IdentityOf(config_, model_, *data_);
  STRAKE_RETURN_IF_ERROR(CheckSameOnAllRanks(mesh_, SharedSettings(config_, identity_)));
  if (is_first_rank()) {
    STRAKE_ASSIGN_OR_RETURN(start, FindRunStart(config_, identity_, screen_, &directory_));
  }
  STRAKE_RETURN_IF_ERROR(ShareRunStart(mesh_, &start));
  step_ = start.step;
  samples_ = start.samples;
  saved_step_ = start.saved_step;
  STRAKE_RETURN_IF_ERROR(SetWeights(start.checkpoint));
  STRAKE_RETURN_IF_ERROR(engine_->CompareReplicas());
  STRAKE_RETURN_IF_ERROR(MeshBarrier(mesh_));
  if (!is_first_rank()) return absl::OkStatus();
  STRAKE_RETURN_IF_ERROR(ClaimDirectory(config_.out, &directory_));
  STRAKE_ASSIGN_OR_RETURN(metrics_, MetricsLog::Open(config_.out + "/metrics.jsonl", step_));
  STRAKE_RETURN_IF_ERROR(WriteFileDurably(config_.out + "/run.json", ToJson(Record())));
  PrintHeaderLine(
      "out", step_ == 0 ? config_.out : absl::StrCat(config_.out, ", resumed at step ", step_));
  return absl::OkStatus();
}

void Trainer::PrintHeaderLine(const char* name, const std::string& text) const {
  screen_->Print(absl::StrFormat("%-10s %s", name, text));
}

void Trainer::PrintHeader() const {
  const MemoryPlan& plan = engine_->memory_plan();
  const int num_ranks = mesh_.num_ranks();
  PrintHeaderLine(
      "model", absl::StrCat(config_.init_from.empty() ? config_.model : config_.init_from, " (",
                            model_.family->display_name, "): ", FormatCount(NumParameters(model_)),
                            " parameters, ", model_.num_layers, " layers of ", model_.hidden_size,
                            ", ", model_.num_heads, " heads, vocabulary ", model_.vocab_size));
  if (num_ranks > 1) PrintHeaderLine("layout", LayoutText(config_.layout));
  const auto bytes = [&](size_t of_a_rank) { return FormatBytes(double(of_a_rank) * num_ranks); };
  PrintHeaderLine(
      "memory",
      absl::StrCat(bytes(plan.total_bytes()), ": weights ", bytes(plan.parameter_bytes),
                   ", gradients ", bytes(plan.gradient_bytes), ", optimizer ",
                   bytes(plan.optimizer_bytes), ", activations ", bytes(plan.activation_bytes),
                   plan.library_bytes > 0 ? ", libraries " + bytes(plan.library_bytes) : ""));
  PrintHeaderLine(
      "data", absl::StrCat(data_->Label(), ": ", FormatCount(data_->split().train.num_tokens()),
                           " tokens to train on, ", FormatCount(data_->split().val.num_tokens()),
                           " to validate on"));
  const double step_tokens = double(config_.global_batch) * config_.seq_len;
  PrintHeaderLine(
      "run",
      absl::StrCat(config_.steps, " steps of ", config_.global_batch, " x ", config_.seq_len,
                   " tokens (",
                   absl::StrFormat("%.2f", double(config_.steps) * config_.global_batch /
                                               data_->train_loader().num_samples()),
                   " epochs), ", FormatCount(step_tokens * config_.steps), " tokens in all"));
  PrintHeaderLine("machine", MachineText(config_.machine, config_.layout));
  if (!engine_->attention_note().empty()) {
    screen_->Print("note: attention runs on Strake's own kernels, slower than cuDNN's: " +
                   engine_->attention_note());
  }
}

// Of this rank's micro-batches of the step.
absl::Status Trainer::AccumulateGradients() {
  const double num_tokens = double(config_.global_batch) * config_.seq_len;
  const int64_t per_pass = config_.micro_batch * mesh_.sizes().dp;
  const int64_t mine = config_.micro_batch * mesh_.coordinates().dp;
  for (int64_t done = 0; done < config_.global_batch; done += per_pass) {
    STRAKE_RETURN_IF_ERROR(
        data_->train_loader().Load(samples_ + done + mine, config_.micro_batch, tokens_, targets_));
    const bool last = done + per_pass >= config_.global_batch;
    STRAKE_RETURN_IF_ERROR(engine_->AccumulateGradients(tokens_, targets_, 1 / num_tokens, last));
  }
  return engine_->SumGradients();
}

// Internal is what the engine says of values that are not finite.
absl::Status Trainer::NameStep(int64_t step, const absl::Status& status) const {
  std::string message = absl::StrCat("step ", step, ": ", status.message());
  if (status.code() == absl::StatusCode::kInternal) {
    absl::StrAppend(&message, "; stopped. ",
                    saved_step_ > 0 ? absl::StrCat("The last checkpoint is ",
                                                   CheckpointPath(config_.out, saved_step_))
                                    : "There is no checkpoint yet");
  }
  return absl::Status(status.code(), message);
}

absl::Status Trainer::Step() {
  const double start = MonotonicSeconds();
  const int64_t step = step_ + 1;
  const absl::Status accumulated = AccumulateGradients();
  if (!accumulated.ok()) return NameStep(step, accumulated);
  const double lr = LearningRate(ScheduleOf(config_), step);
  const auto norm = engine_->Update({.lr = lr,
                                     .beta1 = config_.beta1,
                                     .beta2 = config_.beta2,
                                     .eps = config_.eps,
                                     .weight_decay = config_.weight_decay,
                                     .step = step},
                                    config_.clip_norm);
  if (!norm.ok()) return NameStep(step, norm.status());
  const auto agreement = engine_->Agree(StopRequested() != 0);
  if (!agreement.ok()) return NameStep(step, agreement.status());
  stop_ = agreement->stop;
  step_ = step;
  samples_ += config_.global_batch;
  return Report(agreement->loss_sum, lr, *norm, MonotonicSeconds() - start);
}

absl::Status Trainer::Report(double loss_sum, double lr, double norm, double seconds) {
  const int64_t num_tokens = config_.global_batch * config_.seq_len;
  const double loss = loss_sum / num_tokens;
  // A running mean, so that the time left does not jump; the first step, which warms up, is left
  // out.
  const double weight = steps_timed_ < 2 ? 1 : std::max(0.05, 1.0 / steps_timed_);
  ++steps_timed_;
  seconds_per_step_ += weight * (seconds - seconds_per_step_);
  const double seconds_left = seconds_per_step_ * (config_.steps - step_);
  const double tokens_per_second = num_tokens / seconds;
  if (metrics_.has_value()) {
    STRAKE_RETURN_IF_ERROR(
        metrics_->LogStep({step_, loss, lr, norm, num_tokens, seconds, tokens_per_second}));
  }
  if (config_.log_every > 0 && (step_ % config_.log_every == 0 || step_ == config_.steps)) {
    const double gflops =
        TrainingFlopsPerToken(model_, config_.seq_len) * num_tokens / seconds_per_step_ / 1e9;
    screen_->Print(absl::StrFormat(
        "step %*d/%d  loss %.4f  lr %.2e  grad norm %.3f  %s tokens/s  %.0f GFLOP/s  %s left",
        static_cast<int>(absl::StrCat(config_.steps).size()), step_, config_.steps, loss, lr, norm,
        FormatCount(num_tokens / seconds_per_step_), gflops, FormatDuration(seconds_left)));
  }
  screen_->Update({step_, config_.steps, loss, tokens_per_second, seconds_left});
  return absl::OkStatus();
}

absl::Status Trainer::Evaluate() {
  const int64_t all = data_->val_loader().num_samples();
  int64_t batches = config_.eval_batches;
  if (batches < 0) batches = step_ == config_.steps ? all : kEvalBatches;
  if (batches == 0) return absl::OkStatus();
  const int64_t num_samples =
      batches > all / config_.micro_batch ? all : batches * config_.micro_batch;
  // The data-parallel ranks take turns, so that the samples do not depend on how many they are.
  const int64_t first = config_.micro_batch * mesh_.coordinates().dp;
  for (int64_t i = first; i < num_samples; i += config_.micro_batch * mesh_.sizes().dp) {
    const int64_t count = std::min(config_.micro_batch, num_samples - i);
    const Tensor tokens = tokens_.tensor().Rows(0, count * config_.seq_len);
    const Tensor targets = targets_.tensor().Rows(0, count * config_.seq_len);
    STRAKE_RETURN_IF_ERROR(data_->val_loader().Load(i, count, tokens, targets));
    const absl::Status added = engine_->EvaluateLoss(tokens, targets);
    if (!added.ok()) return NameStep(step_, added);
  }
  const auto whole = engine_->Agree(/*stop=*/false);
  if (!whole.ok()) return NameStep(step_, whole.status());
  const double loss = whole->loss_sum / (double(num_samples) * config_.seq_len);
  screen_->Print(absl::StrFormat("step %d  validation loss %.4f (%s of %s sequences)", step_, loss,
                                 FormatCount(num_samples), FormatCount(all)));
  return metrics_.has_value() ? metrics_->LogEval({step_, loss}) : absl::OkStatus();
}

absl::Status Trainer::PrintSample() {
  if (mesh_.coordinates().dp != 0) return absl::OkStatus();
  const int64_t num_prompt = std::clamp<int64_t>(config_.seq_len / 2, 1, kPromptTokens);
  const int64_t count = std::min(kSampleTokens, config_.seq_len - num_prompt);
  STRAKE_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt, data_->FirstValTokens(num_prompt));
  const size_t bytes = GenerationBytes(engine_->context(), engine_->model(), num_prompt, count);
  STRAKE_ASSIGN_OR_RETURN(ActivationArena arena,
                          ActivationArena::Create(bytes, engine_->options().device));
  Context ctx(&engine_->team(), &arena, engine_->options().op_set);
  ctx.set_cuda(engine_->cuda());
  std::vector<int32_t> continuation;
  const SamplingOptions sampling = {.temperature = kSampleTemperature,
                                    .seed = static_cast<uint64_t>(config_.seed + step_)};
  STRAKE_RETURN_IF_ERROR(
      GenerateTokens(ctx, engine_->model(), prompt, count, sampling, [&](int64_t token) {
        continuation.push_back(static_cast<int32_t>(token));
        return absl::OkStatus();
      }));
  screen_->Print(absl::StrCat("step ", step_, "  sample: [", data_->ToText(prompt), "]",
                              data_->is_text() ? "" : " ", data_->ToText(continuation)));
  return absl::OkStatus();
}

absl::Status Trainer::Save() {
  const auto write = [&](const std::string& directory) {
    return WriteCheckpoint(directory, *engine_, Record());
  };
  if (!is_first_rank()) {
    saved_step_ = step_;
    return write(/*directory=*/"");
  }
  // The log first: a run that resumes from this checkpoint counts on its lines.
  STRAKE_RETURN_IF_ERROR(metrics_->Sync());
  STRAKE_RETURN_IF_ERROR(directory_->WriteCheckpoint(step_, write));
  saved_step_ = step_;
  screen_->Print(absl::StrFormat("step %d  saved %s", step_, CheckpointPath(config_.out, step_)));
  return directory_->Prune(config_.keep_last);
}

absl::Status Trainer::Run() {
  if (step_ >= config_.steps) {
    screen_->Print(absl::StrCat("nothing to do: the run is at step ", step_, " of ", config_.steps,
                                "; raise --steps to go on"));
    return absl::OkStatus();
  }
  const auto due = [&](int64_t every) {
    return every > 0 && (step_ % every == 0 || step_ == config_.steps);
  };
  STRAKE_ASSIGN_OR_RETURN(const Engine::Agreement before, engine_->Agree(StopRequested() != 0));
  stop_ = before.stop;
  while (step_ < config_.steps && !stop_) {
    STRAKE_RETURN_IF_ERROR(Step());
    if (due(config_.eval_every)) STRAKE_RETURN_IF_ERROR(Evaluate());
    if (due(config_.sample_every)) STRAKE_RETURN_IF_ERROR(PrintSample());
    if (due(config_.save_every) || step_ == config_.steps) STRAKE_RETURN_IF_ERROR(Save());
  }
  if (saved_step_ != step_) STRAKE_RETURN_IF_ERROR(Save());
  if (step_ < config_.steps) {
    screen_->Print(absl::StrCat("stopped by a signal after step ", step_,
                                "; the same command goes on from there"));
  }
  return absl::OkStatus();
}

}  // namespace strake
