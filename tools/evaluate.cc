// Computes a checkpoint's loss on texts, and its accuracy in multiple-choice questions:
// `bazel run //tools:evaluate -- --help`. Writes no file.

#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/format_quantity.h"
#include "core/base/json.h"
#include "core/base/name_error.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/base/work_state.h"
#include "core/device/context.h"
#include "core/device/cuda_context.h"
#include "core/memory/activation_arena.h"
#include "models/checkpoint/model_files.h"
#include "models/head_loss.h"
#include "models/model_parts.h"
#include "nlohmann/json.hpp"
#include "parallel/mesh/mesh.h"
#include "tools/cli/checkpoint_flags.h"
#include "tools/cli/layout.h"
#include "tools/cli/machine.h"
#include "tools/cli/options.h"
#include "tools/cli/program.h"
#include "tools/cli/progress.h"
#include "tools/cli/run_on_ranks.h"
#include "tools/cli/user_paths.h"
#include "tools/cli/work_screen.h"
#include "tools/evaluating/evaluate_config.h"
#include "tools/evaluating/evaluation_inputs.h"
#include "tools/evaluating/evaluation_report.h"
#include "tools/gpu_tuning/product_tunings.h"
#include "train/engine/engine_options.h"
#include "train/engine/inference_model.h"
#include "train/evaluation/choice_scores.h"
#include "train/evaluation/evaluation_memory.h"
#include "train/evaluation/sequence_scorer.h"
#include "train/evaluation/text_loss.h"
#include "train/plan/memory_plan.h"

namespace strake {
namespace {

int64_t LongestSequence(const std::vector<PassShape>& passes) {
  int64_t longest = 1;
  for (const PassShape& pass : passes) longest = std::max(longest, pass.seq_len);
  return longest;
}

EngineOptions OptionsOf(const EvaluateConfig& config, const ModelConfig& model,
                        const std::vector<PassShape>& passes) {
  const Device device = config.machine.device_kind();
  return {.model = model,
          .seq_len = LongestSequence(passes),
          .op_set = config.machine.op_set(),
          .dtype = config.machine.dtype_kind(),
          .device = device,
          .pipeline = PipelineOptionsOf(config.layout, /*num_micro_batches=*/1).value(),
          .logits_chunk = LogitsChunk::For(device),
          .activation_recompute = kEvaluationRecompute};
}

absl::Status CheckEvaluationMemory(const EvaluateConfig& config, const ModelConfig& model,
                                   const std::vector<PassShape>& passes) {
  const EngineOptions options = OptionsOf(config, model, passes);
  const MeshVector sizes = config.layout.sizes();
  const double bytes =
      BytesOfRanks(sizes, NumRanksInMemory(config.machine, config.layout),
                   [&](int stage) { return EvaluationBytes(options, sizes, stage, passes); });
  STRAKE_ASSIGN_OR_RETURN(
      const AvailableMemory available,
      FindAvailableMemory(config.machine.device_kind(), CudaDeviceOf(config.layout)));
  if (bytes <= double(available.bytes)) return absl::OkStatus();
  PassShape largest;
  for (const PassShape& pass : passes) {
    if (pass.batch * pass.seq_len > largest.batch * largest.seq_len) largest = pass;
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      "the model and passes of ", largest.batch, " x ", largest.seq_len, " tokens need ",
      FormatBytes(bytes), available.of, " but ", FormatBytes(available.bytes),
      " are free; choose a smaller --micro_batch, --seq_len or --dp"));
}

absl::Status EvaluateInputs(const EvaluateConfig& config, const EvaluationInputs& inputs,
                            const Context& ctx, const ModelParts& model, const Mesh& mesh,
                            const OnWork& on_work, EvaluationReport* report) {
  WorkState work = {.unit = WorkUnit::kCount};
  SequenceScorer scorer(
      ctx, model, mesh,
      {.pass_tokens = config.pass_tokens(), .on_progress = [&](int64_t done, int64_t all) {
         work.done = static_cast<double>(done);
         work.total = static_cast<double>(all);
         if (on_work != nullptr) on_work(work);
       }});
  for (const EvaluationText& text : inputs.texts) {
    work.what = "evaluating " + Printable(text.path());
    STRAKE_ASSIGN_OR_RETURN(TextLoss loss, EvaluateText(
                                               scorer, text.num_ids(),
                                               [&](int64_t begin, int64_t count, int32_t* ids) {
                                                 return text.Read(begin, count, ids);
                                               },
                                               config.seq_len, config.stride));
    loss.bytes = text.num_bytes();
    report->files.push_back(text.path());
    report->losses.push_back(loss);
  }
  for (const ChoiceTask& task : inputs.tasks) {
    work.what = "evaluating " + Printable(task.name);
    STRAKE_ASSIGN_OR_RETURN(ChoiceScores scores, ScoreChoices(scorer, task));
    report->scores.push_back(std::move(scores));
  }
  return absl::OkStatus();
}

absl::Status EvaluateOnRank(const EvaluateConfig& config, const GivenCheckpoint& checkpoint,
                            const EvaluationInputs& inputs, const Mesh& mesh, const OnWork& on_work,
                            EvaluationReport* report) {
  const Device device = config.machine.device_kind();
  std::unique_ptr<CudaContext> cuda;
  if (device == Device::kCuda) {
    STRAKE_ASSIGN_OR_RETURN(cuda,
                            CudaContext::Create(CudaDeviceOf(config.layout), ProductTunings()));
    mesh.BindCudaStream(cuda->stream());
  }
  const std::vector<PassShape> passes = inputs.LargestPasses(config);
  ThreadTeam team(static_cast<int>(config.machine.threads));
  STRAKE_ASSIGN_OR_RETURN(
      const std::unique_ptr<InferenceModel> model,
      InferenceModel::Create(OptionsOf(config, checkpoint.model, passes), mesh));
  STRAKE_RETURN_IF_ERROR(NameError(
      "--checkpoint", LoadModel(checkpoint.files, checkpoint.model, model->parameters(), on_work)));

  const ModelParts parts = model->parts();
  const OpSet op_set = config.machine.op_set();
  ActivationArena plan = ActivationArena::DryRun(device);
  size_t bytes = 0;
  for (const PassShape& pass : passes) {
    bytes = std::max(bytes,
                     SequenceScorer::ActivationBytes(Context(&team, &plan, op_set), parts, pass));
  }
  STRAKE_ASSIGN_OR_RETURN(ActivationArena arena, ActivationArena::Create(bytes, device));
  Context ctx(&team, &arena, op_set);
  ctx.set_cuda(cuda.get());
  return EvaluateInputs(config, inputs, ctx, parts, mesh, on_work, report);
}

absl::Status Print(const EvaluateConfig& config, const GivenCheckpoint& checkpoint,
                   Progress* screen) {
  STRAKE_ASSIGN_OR_RETURN(const EvaluationInputs inputs,
                          OpenEvaluationInputs(config, checkpoint, screen->Teller()));
  STRAKE_RETURN_IF_ERROR(
      CheckEvaluationMemory(config, checkpoint.model, inputs.LargestPasses(config)));
  EvaluationReport report = {.checkpoint = checkpoint.directory, .tasks = &inputs.tasks};
  bool prints = false;
  STRAKE_RETURN_IF_ERROR(RunOnRanks(config.layout, [&](const Mesh& mesh) {
    EvaluationReport others;
    const bool first = mesh.rank() == 0;
    if (first) prints = true;
    return EvaluateOnRank(config, checkpoint, inputs, mesh, first ? screen->Teller() : nullptr,
                          first ? &report : &others);
  }));
  screen->EndWork();
  if (!prints) return absl::OkStatus();
  std::cout << (config.json ? JsonText(ReportJson(report, config)) + "\n" : ReportText(report));
  return FlushStdout();
}

absl::Status Evaluate(int argc, char** argv) {
  ChangeToUserDirectory();
  EvaluateConfig config;
  OptionSet options("evaluate");
  AddEvaluateOptions(&config, &options);
  STRAKE_ASSIGN_OR_RETURN(const bool helped, ParseFlagsOrHelp(argc, argv, &options));
  if (helped) return absl::OkStatus();
  STRAKE_RETURN_IF_ERROR(CheckProcesses(config.layout));
  STRAKE_RETURN_IF_ERROR(ResolveMachine(config.layout, &config.machine));
  WorkScreen screen(STDERR_FILENO, config.quiet);
  STRAKE_ASSIGN_OR_RETURN(
      const GivenCheckpoint checkpoint,
      ReadCheckpointFlag(config.checkpoint, config.base_model, screen->Teller()));
  STRAKE_RETURN_IF_ERROR(CheckTensorParallelSize(config.layout, checkpoint.model));
  STRAKE_RETURN_IF_ERROR(CheckStages(config.layout, checkpoint.model, /*num_micro_batches=*/1));
  STRAKE_RETURN_IF_ERROR(ResolveEvaluateConfig(checkpoint.model, &config));
  return Print(config, checkpoint, &*screen);
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) { return strake::ProgramMain(argc, argv, strake::Evaluate); }
