#include "tools/cli/screen_observer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/base/format_quantity.h"
#include "core/base/printable.h"
#include "data/blend_loader.h"
#include "models/families/family.h"
#include "models/lora_modules.h"
#include "models/model_config.h"
#include "models/model_summary.h"
#include "parallel/mesh/mesh.h"
#include "tools/cli/layout.h"
#include "tools/cli/machine.h"
#include "train/engine/layout_summary.h"
#include "train/engine/stage_models.h"
#include "train/plan/memory_plan.h"
#include "train/run/trainer_options.h"
#include "train/run/training_data.h"

namespace strake {
namespace {

// "rank 4, alpha 8, on q_proj, v_proj: 10.5k parameters to train".
std::string AdaptersText(const ModelConfig& model) {
  const LoraConfig& lora = model.lora;
  return absl::StrCat(
      "rank ", lora.rank, ", alpha ", lora.alpha, ", on ",
      absl::StrJoin(lora.targets.empty() ? AdapterModules(model) : lora.targets, ", "), ": ",
      FormatCount(NumAdapterParameters(model)), " parameters to train");
}

// The memory of one rank of each stage: the plan's is the first one's.
MemoryPlan MemoryOfStages(const TrainPlan& plan) {
  MemoryPlan sum = plan.memory;
  const MeshVector& sizes = plan.mesh.sizes();
  const EngineOptions cut = WithLayersOfParts(plan.options.engine, sizes.pp);
  for (int stage = 1; stage < sizes.pp; ++stage) {
    const MemoryPlan memory = PlanMemory(cut, sizes, FirstRankOfStage(sizes, stage));
    sum.parameter_bytes += memory.parameter_bytes;
    sum.gradient_bytes += memory.gradient_bytes;
    sum.optimizer_bytes += memory.optimizer_bytes;
    sum.activation_bytes += memory.activation_bytes;
    sum.library_bytes += memory.library_bytes;
  }
  return sum;
}

// The memory of all ranks, assuming that each needs as much as the first of its stage, and of
// snapshots.
std::string MemoryText(const MemoryPlan& plan, int num_ranks, size_t snapshot_bytes) {
  const auto bytes = [&](size_t of_a_rank) { return FormatBytes(double(of_a_rank) * num_ranks); };
  return absl::StrCat(
      bytes(plan.total_bytes()), ": weights ", bytes(plan.parameter_bytes), ", gradients ",
      bytes(plan.gradient_bytes), ", optimizer ", bytes(plan.optimizer_bytes), ", activations ",
      bytes(plan.activation_bytes),
      plan.library_bytes > 0 ? ", libraries " + bytes(plan.library_bytes) : "",
      snapshot_bytes > 0 ? absl::StrCat("; to save beside the steps, ", FormatBytes(snapshot_bytes))
                         : "");
}

// "books 0.7: 3.10 epochs, code 0.3: 0.20 epochs", with the shares that the weights are.
std::string BlendText(const TrainingData& data, const TrainerOptions& options) {
  std::vector<std::string> texts;
  for (const std::string& name : data.source_names()) {
    const int source = static_cast<int>(texts.size());
    texts.push_back(absl::StrFormat("%s %.4g: %.2f epochs", Printable(name),
                                    data.train_loader().blend().share(source),
                                    data.Epochs(options, source)));
  }
  return absl::StrJoin(texts, ", ");
}

std::string RunText(const TrainerOptions& options, const TrainingData& data) {
  const int64_t steps = options.schedule.total_steps, batch = options.global_batch;
  const double step_tokens = double(batch) * options.engine.seq_len;
  const std::string epochs =
      data.source_names().empty() ? absl::StrFormat(" (%.2f epochs)", data.Epochs(options, 0)) : "";
  return absl::StrCat(steps, " steps of ", batch, " x ", options.engine.seq_len, " tokens", epochs,
                      ", ", FormatCount(step_tokens * steps), " tokens in all");
}

}  // namespace

void ScreenObserver::PrintHeaderLine(const char* name, const std::string& text) {
  screen_->PrintProgress(absl::StrFormat("%-10s %s", name, text));
}

void ScreenObserver::PrintResult(const std::string& line) {
  quiet() ? results_.push_back(line) : screen_->Print(line);
}

absl::Status ScreenObserver::OnWarning(const std::string& text) {
  screen_->Print("warning: " + Printable(text));
  return absl::OkStatus();
}

absl::Status ScreenObserver::OnNote(const std::string& text) {
  screen_->PrintNote(text);
  return absl::OkStatus();
}

absl::Status ScreenObserver::OnPrepare(const PrepareProgress& p) {
  return OnWork({.what = "preparing text",
                 .done = static_cast<double>(p.bytes_read),
                 .total = static_cast<double>(p.bytes_in_all),
                 .unit = WorkUnit::kBytes});
}

absl::Status ScreenObserver::OnPlan(const TrainPlan& plan) {
  const TrainConfig& config = command_.config;
  const TrainerOptions& options = plan.options;
  const int num_ranks = config.layout.num_ranks();
  num_steps_ = options.schedule.total_steps;
  const ModelConfig& model = options.engine.model;
  PrintHeaderLine("model",
                  absl::StrCat(options.init_from.empty() ? config.model : options.init_from, " (",
                               model.family->display_name, "): ", ModelSummary(model)));
  if (model.lora.enabled()) PrintHeaderLine("adapters", AdaptersText(model));
  if (num_ranks > 1) {
    PrintHeaderLine("layout", LayoutSummary(plan.mesh.sizes(), options.engine, config.layout.comm));
  }
  PrintHeaderLine("memory", MemoryText(MemoryOfStages(plan), num_ranks / plan.mesh.sizes().pp,
                                       plan.snapshot_bytes));
  PrintHeaderLine("data", plan.data.Summary());
  if (!plan.data.source_names().empty()) {
    PrintHeaderLine("blend", BlendText(plan.data, options));
  }
  PrintHeaderLine("run", RunText(options, plan.data));
  PrintHeaderLine("machine", MachineText(config.machine, config.layout));
  if (!plan.attention_note.empty()) {
    screen_->PrintNote("attention runs on Strake's own kernels, slower than cuDNN's: " +
                       plan.attention_note);
  }
  return absl::OkStatus();
}

absl::Status ScreenObserver::OnMemory(size_t done_bytes, size_t total_bytes) {
  return OnWork({.what = "waiting for memory from the system",
                 .done = static_cast<double>(done_bytes),
                 .total = static_cast<double>(total_bytes),
                 .unit = WorkUnit::kBytes});
}

absl::Status ScreenObserver::OnWork(const WorkState& work) {
  WorkState shown = work;
  shown.what = Printable(work.what);
  screen_->Teller()(shown);
  return absl::OkStatus();
}

absl::Status ScreenObserver::OnStart(const TrainStart& start) {
  screen_->Erase();
  PrintHeaderLine("out", start.step == 0
                             ? start.directory
                             : absl::StrCat(start.directory, ", resumed at step ", start.step));
  return absl::OkStatus();
}

bool ScreenObserver::IsStepWithLine(int64_t step) const {
  int64_t every = command_.config.log_every;
  // A run of few steps is one of long steps, as a rule.
  if (every < 0) every = std::clamp<int64_t>(num_steps_ / 20, 1, 50);
  return every > 0 && (step % every == 0 || step == num_steps_);
}

absl::Status ScreenObserver::OnStep(const StepMetrics& m) {
  const TrainerOptions& run = command_.config.run;
  const int64_t steps = num_steps_;
  // A running mean, so that the time left does not jump. The first step, which warms up, is
  // excluded.
  const double weight = steps_timed_ < 2 ? 1 : std::max(0.05, 1.0 / steps_timed_);
  ++steps_timed_;
  seconds_per_step_ += weight * (m.seconds - seconds_per_step_);
  const double seconds_left = seconds_per_step_ * (steps - m.step);
  last_step_ = m.step;
  results_.clear();
  // The last step that is done is not known to be it.
  if (quiet() || IsStepWithLine(m.step)) {
    const double gflops = TrainingFlopsPerToken(run.engine.model, run.engine.seq_len) * m.tokens /
                          seconds_per_step_ / 1e9;
    PrintResult(absl::StrFormat(
        "step %*d/%d  loss %.4f  lr %.2e  grad norm %.3f  %s tokens/s  %.0f GFLOP/s  %s left",
        static_cast<int>(absl::StrCat(steps).size()), m.step, steps, m.loss, m.lr, m.grad_norm,
        FormatCount(m.tokens / seconds_per_step_), gflops, FormatDuration(seconds_left)));
  }
  screen_->Update({m.step, steps, m.loss, m.tokens_per_second, seconds_left});
  return absl::OkStatus();
}

absl::Status ScreenObserver::OnEvaluation(const EvalMetrics& m) {
  const std::string name = m.name.empty() ? "" : " of " + Printable(m.name);
  const std::string bits =
      m.bits_per_byte > 0 ? absl::StrFormat(", %.4f bits per byte", m.bits_per_byte) : "";
  PrintResult(absl::StrFormat("step %d  validation loss%s %.4f%s (%s of %s sequences)", m.step,
                              name, m.val_loss, bits, FormatCount(m.num_samples),
                              FormatCount(m.all_samples)));
  return absl::OkStatus();
}

absl::Status ScreenObserver::OnTask(const TaskMetrics& m) {
  PrintResult(absl::StrFormat("step %d  %s: accuracy %.4f, normalised %.4f (%s questions)", m.step,
                              Printable(m.name), m.acc, m.acc_norm,
                              FormatCount(static_cast<double>(m.num_examples))));
  return absl::OkStatus();
}

absl::Status ScreenObserver::OnSample(const TrainSample& sample) {
  screen_->PrintProgress(absl::StrCat("step ", sample.step, "  sample: [", sample.prompt, "]",
                                      sample.is_text ? "" : " ", sample.continuation));
  return absl::OkStatus();
}

absl::Status ScreenObserver::OnCheckpoint(const TrainCheckpoint& checkpoint) {
  // One that is saved beside the steps may be of an earlier one.
  if (quiet() && checkpoint.step != last_step_) return absl::OkStatus();
  PrintResult(absl::StrFormat("step %d  saved %s (fingerprint %s)", checkpoint.step,
                              checkpoint.path, checkpoint.fingerprint));
  return absl::OkStatus();
}

absl::Status ScreenObserver::OnEnd(const TrainEnd& end) {
  screen_->EndWork();
  for (const std::string& line : results_) screen_->Print(line);
  switch (end.reason) {
    case TrainEnd::Reason::kNothingToDo:
      screen_->Print(absl::StrCat("nothing to do: the run is at step ", end.step, " of ",
                                  end.num_steps, "; raise --steps to continue"));
      break;
    case TrainEnd::Reason::kStopRequested:
      screen_->Print(absl::StrCat("stopped by a signal after step ", end.step,
                                  "; the same command resumes from there"));
      break;
    case TrainEnd::Reason::kLastStep:
      break;
  }
  return absl::OkStatus();
}

}  // namespace strake
