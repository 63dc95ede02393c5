#include "tools/checking/check_run.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/durable_file.h"
#include "core/base/format_quantity.h"
#include "core/base/json.h"
#include "core/base/monotonic_seconds.h"
#include "core/base/name_error.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/cuda/cuda_runtime.h"
#include "core/device/cuda_context.h"
#include "core/ops/check/run_check.h"
#include "models/model_config.h"
#include "nlohmann/json.hpp"
#include "parallel/mesh/mesh.h"
#include "parallel/mesh/run_on_threads.h"
#include "tools/checking/check_batch.h"
#include "tools/checking/check_model_ops.h"
#include "tools/checking/check_step.h"
#include "tools/cli/engine_flags.h"
#include "tools/cli/machine.h"
#include "train/engine/engine_options.h"
#include "train/engine/stage_models.h"
#include "train/plan/memory_plan.h"

namespace strake {
namespace {

constexpr MeshVector kOneRank = {.dp = 1, .pp = 1, .cp = 1, .tp = 1};

// What --brief leaves out.
void PrintMore(const CheckCommand& command, const std::string& text, Progress* screen) {
  if (!command.config.brief) screen->Print(text);
}

void PrintProgress(const CheckCommand& command, const std::string& text, Progress* screen) {
  if (!command.config.brief) screen->PrintProgress(text);
}

void PrintRow(const CheckCommand& command, const CheckLine& line, Progress* screen) {
  if (command.config.brief && line.ok()) return;
  screen->Print(CheckTableRow(line, screen->line_columns()));
}

void PrintSummary(const CheckCommand& command, const std::string& section,
                  const std::vector<CheckLine>& lines, Progress* screen) {
  screen->Print(absl::StrCat(command.config.brief ? section + ": " : "  ", CheckSummary(lines)));
}

// The section's comparisons, and the counts of its gradients.
void PrintSection(const CheckCommand& command, const std::string& section, const std::string& title,
                  const std::vector<CheckLine>& lines, const ShardCoverage& coverage,
                  Progress* screen) {
  PrintMore(command, absl::StrCat(section, ": ", title), screen);
  PrintMore(command, CheckTableHead(screen->line_columns()), screen);
  for (const CheckLine& line : lines) PrintRow(command, line, screen);
  PrintSummary(command, section, lines, screen);
  PrintMore(command, "  " + CoverageText(coverage), screen);
}

void PrintHeader(const CheckCommand& command, const CheckMemoryPlan& plan, Progress* screen) {
  const CheckConfig& c = command.config;
  if (c.brief) return;
  for (const std::string& notice : command.notices) screen->PrintNote(notice);
  screen->Print(absl::StrFormat(
      "checking %s (%s parameters), batch %d x %d in micro-batches of %d, tp %d x%s%s dp %d%s, "
      "ZeRO %d, on %s; memory %s%s",
      c.init_from.empty() ? c.model : c.init_from, FormatCount(NumParameters(command.model)),
      c.global_batch, c.seq_len, c.micro_batch, c.layout.tp,
      c.layout.cp > 1 ? absl::StrCat(" cp ", c.layout.cp, " x") : "",
      c.layout.pp > 1 ? absl::StrCat(" pp ", c.layout.pp, " x") : "", c.layout.dp,
      c.layout.sequence_parallel ? ", sequence parallel" : "", c.layout.zero,
      MachineText(c.machine, c.layout), FormatBytes(static_cast<double>(plan.peak_bytes())),
      plan.gpu_bytes == 0
          ? ""
          : absl::StrCat(", of the GPU ", FormatBytes(static_cast<double>(plan.gpu_bytes)))));
}

// Computes the step by definition, the slow part.
absl::StatusOr<std::unique_ptr<WholeStep>> TimeWholeStep(const CheckCommand& command,
                                                         const StepBatch& batch, Progress* screen) {
  const double flops = TrainingFlopsPerToken(command.model, command.config.seq_len) *
                       static_cast<double>(command.config.global_batch * command.config.seq_len);
  PrintProgress(
      command,
      absl::StrFormat(
          "model: the step by definition, in f64 (2 x %s floating-point operations: the slow part; "
          "once more with every weight off by one rounding, for the tolerances) ...",
          FormatCount(flops)),
      screen);
  const double start = MonotonicSeconds();
  auto truth = ComputeWholeStep(command, batch, screen);
  if (!truth.ok()) return NameError("the step by definition, in f64", truth.status());
  screen->EndWork();
  PrintProgress(command,
                absl::StrFormat("  took %s; loss %.6f", FormatDuration(MonotonicSeconds() - start),
                                (*truth)->loss),
                screen);
  return truth;
}

absl::Status CheckModel(const CheckCommand& command, const StepBatch& batch, const WholeStep& truth,
                        Progress* screen, CheckReport* report) {
  const Mesh mesh = Mesh::SingleRank();
  StepComparison comparison(&command, &batch, &truth, command.WholeOptions(), kOneRank, screen);
  {
    STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                            MakeCheckEngine(command, command.WholeOptions(), mesh));
    const absl::Status status = comparison.Run(*engine);
    if (!status.ok()) return NameError("the step on one rank", status);
  }
  report->model = comparison.Lines();
  report->model_coverage = comparison.Coverage();
  screen->EndWork();
  PrintSection(command, "model", "one rank against it", report->model, *report->model_coverage,
               screen);
  return absl::OkStatus();
}

absl::Status CheckRanks(const CheckCommand& command, const StepBatch& batch, const WholeStep& truth,
                        Progress* screen, CheckReport* report) {
  const LayoutConfig& layout = command.config.layout;
  const EngineOptions options = command.RankOptions();
  StepComparison comparison(&command, &batch, &truth, options, layout.sizes(), screen);
  const absl::Status status = RunOnThreads(
      layout.sizes(), layout.communicator_options(), [&](const Mesh& mesh) -> absl::Status {
        STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                                MakeCheckEngine(command, options, mesh));
        return comparison.Run(*engine);
      });
  if (!status.ok()) return NameError("the step on the ranks of the layout", status);
  report->layout = comparison.Lines();
  report->layout_coverage = comparison.Coverage();
  screen->EndWork();
  PrintSection(command, "layout", absl::StrCat(layout.num_ranks(), " ranks against it"),
               report->layout, *report->layout_coverage, screen);
  return absl::OkStatus();
}

absl::Status WriteReport(const CheckCommand& command, const CheckReport& report, double seconds) {
  if (command.config.report.empty()) return absl::OkStatus();
  nlohmann::ordered_json json;
  json["config"] = ToJson(command.config);
  json["parameters"] = NumParameters(command.model);
  json["device"] = command.config.machine.device;
  json["dtype"] = command.config.machine.dtype;
  json.update(ToJson(report));
  json["seconds"] = seconds;
  return WriteFileDurably(command.config.report, JsonText(json, 1) + "\n");
}

CheckLine LineOf(const OpCheck& check, const OpCheckResult& result) {
  return {.name = check.op,
          .pass = PassName(check.pass),
          .tensor = result.tensor,
          .shape = result.shape,
          .layers = check.layers,
          .error = result.error,
          .tolerance = result.tolerance,
          .index = result.index};
}

OpMachine MachineOf(const EngineOptions& options, ThreadTeam* team, CudaContext* cuda) {
  return {.team = team, .op_set = options.op_set, .device = options.device, .cuda = cuda};
}

// Adds the allocations of all ranks' engines, on their devices. Ranks on a GPU copy weights, then
// gradients, to the host for the comparison.
void AddRanks(const EngineOptions& options, const MeshVector& sizes, size_t* host, size_t* gpu) {
  const size_t ranks_of_stage = NumRanks(sizes) / sizes.pp;
  const EngineOptions cut = WithLayersOfParts(options, sizes.pp);
  size_t of_engines = 0, of_copies = 0;
  for (int stage = 0; stage < sizes.pp; ++stage) {
    const MemoryPlan rank = PlanMemory(cut, sizes, FirstRankOfStage(sizes, stage));
    of_engines += ranks_of_stage * rank.total_bytes();
    of_copies += ranks_of_stage * std::max(rank.parameter_bytes, rank.gradient_bytes);
  }
  if (options.device == Device::kCpu) {
    *host += of_engines;
    return;
  }
  *host += of_copies;
  *gpu = std::max(*gpu, of_engines);
}

absl::Status CheckGpuMemory(const EngineOptions& options, const CheckMemoryPlan& plan) {
  if (options.device == Device::kCpu) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(const AvailableMemory available,
                          FindAvailableMemory(options.device, options.cuda_device));
  if (plan.gpu_bytes <= available.bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the check needs ", FormatBytes(static_cast<double>(plan.gpu_bytes)),
                   available.of, " but ", FormatBytes(static_cast<double>(available.bytes)),
                   " are free; choose a smaller --model, --micro_batch or --seq_len"));
}

}  // namespace

size_t CheckMemoryPlan::peak_bytes() const {
  return std::max({ops_bytes, truth_bytes, model_bytes, layout_bytes});
}

CheckMemoryPlan PlanCheckMemory(const CheckCommand& command) {
  CheckMemoryPlan plan;
  const EngineOptions options = command.RankOptions();
  ThreadTeam team(options.num_threads);
  const OpMachine machine = MachineOf(options, &team, /*cuda=*/nullptr);
  for (const OpCheck& check : ModelOps(command)) {
    const OpCheckBytes bytes = PlanOpCheck(check, machine);
    plan.ops_bytes = std::max(plan.ops_bytes, bytes.host);
    plan.gpu_bytes = std::max(plan.gpu_bytes, bytes.device);
  }
  const size_t num_parameters = NumParameters(command.model);
  // WholeStep: weights and gradients in double.
  const size_t truth = 2 * sizeof(double) * num_parameters;
  // ShardComparison, twice: a copy of each element in f32 and a count.
  const size_t comparison = 2 * (sizeof(float) + sizeof(int16_t)) * num_parameters;
  const MemoryPlan f64 = PlanMemory(command.TruthOptions(), kOneRank, 0);
  // The optimizer does not run there, and untouched pages use no memory.
  plan.truth_bytes = truth + f64.total_bytes() - f64.optimizer_bytes;
  plan.model_bytes = truth + comparison;
  AddRanks(command.WholeOptions(), kOneRank, &plan.model_bytes, &plan.gpu_bytes);
  const LayoutConfig& layout = command.config.layout;
  if (layout.num_ranks() > 1) {
    plan.layout_bytes = truth + comparison;
    AddRanks(options, layout.sizes(), &plan.layout_bytes, &plan.gpu_bytes);
  }
  return plan;
}

absl::Status CheckMemoryFor(const CheckMemoryPlan& plan, size_t available_bytes) {
  if (plan.peak_bytes() <= available_bytes) return absl::OkStatus();
  const auto bytes = [](size_t count) { return FormatBytes(static_cast<double>(count)); };
  return absl::ResourceExhaustedError(absl::StrCat(
      "the check needs ", bytes(plan.peak_bytes()), " of memory (single ops ",
      bytes(plan.ops_bytes), ", the step by definition in f64 ", bytes(plan.truth_bytes),
      ", one rank beside it ", bytes(plan.model_bytes),
      plan.layout_bytes > 0 ? ", all ranks " + bytes(plan.layout_bytes) : "", ") but ",
      bytes(available_bytes),
      " are free; choose a smaller --model, or one with fewer layers, --micro_batch or --seq_len"));
}

absl::StatusOr<std::vector<CheckLine>> CheckOps(const CheckCommand& command,
                                                const std::vector<OpCheck>& ops, Progress* screen) {
  const EngineOptions options = command.RankOptions();
  ThreadTeam team(options.num_threads);
  std::unique_ptr<CudaContext> cuda;
  if (options.device == Device::kCuda) {
    STRAKE_ASSIGN_OR_RETURN(cuda,
                            CudaContext::Create(options.cuda_device, options.product_tunings));
  }
  const OpMachine machine = MachineOf(options, &team, cuda.get());
  std::vector<CheckLine> all;
  PrintMore(command,
            absl::StrCat("ops: ", ops.size(), " of a rank, each against its definition in f64"),
            screen);
  PrintMore(command, CheckTableHead(screen->line_columns()), screen);
  size_t num_done = 0;
  for (const OpCheck& check : ops) {
    screen->Work({.what = "checking ops",
                  .done = static_cast<double>(num_done++),
                  .total = static_cast<double>(ops.size()),
                  .unit = WorkUnit::kCount});
    const auto results = CheckOp(check, static_cast<uint64_t>(command.config.seed), machine);
    if (!results.ok()) return NameError(check.op, results.status());
    for (const OpCheckResult& result : *results) {
      all.push_back(LineOf(check, result));
      PrintRow(command, all.back(), screen);
    }
  }
  screen->EndWork();
  PrintSummary(command, "ops", all, screen);
  return all;
}

absl::StatusOr<CheckReport> RunCheck(const CheckCommand& command, Progress* screen) {
  const double start = MonotonicSeconds();
  const LayoutConfig& layout = command.config.layout;
  // Checked first, since it works for models of any size.
  STRAKE_RETURN_IF_ERROR(CheckMemoryOfFlags(command.RankOptions(), command.config.machine, layout));
  const CheckMemoryPlan plan = PlanCheckMemory(command);
  STRAKE_RETURN_IF_ERROR(CheckMemoryFor(plan, AvailableMemoryBytes().value_or(plan.peak_bytes())));
  STRAKE_RETURN_IF_ERROR(CheckGpuMemory(command.RankOptions(), plan));
  screen->Work({.what = "reading tokens"});
  STRAKE_ASSIGN_OR_RETURN(const StepBatch batch, LoadStepBatch(command));
  STRAKE_RETURN_IF_ERROR(CheckInitFrom(command, screen->Teller()));
  screen->EndWork();
  PrintHeader(command, plan, screen);

  CheckReport report;
  if (command.RankOptions().device == Device::kCuda) {
    STRAKE_ASSIGN_OR_RETURN(const CudaDevice gpu,
                            DescribeCudaDevice(command.RankOptions().cuda_device));
    report.gpu = gpu.name;
  }
  STRAKE_ASSIGN_OR_RETURN(report.ops, CheckOps(command, ModelOps(command), screen));
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<WholeStep> truth,
                          TimeWholeStep(command, batch, screen));
  STRAKE_RETURN_IF_ERROR(CheckModel(command, batch, *truth, screen, &report));
  if (layout.num_ranks() > 1) {
    STRAKE_RETURN_IF_ERROR(CheckRanks(command, batch, *truth, screen, &report));
  }
  const double seconds = MonotonicSeconds() - start;
  STRAKE_RETURN_IF_ERROR(WriteReport(command, report, seconds));
  PrintProgress(command, absl::StrCat("checked in ", FormatDuration(seconds)), screen);
  return report;
}

}  // namespace strake
