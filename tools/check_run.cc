#include "tools/check_run.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "models/model_config.h"
#include "parallel/mesh/mesh.h"
#include "parallel/mesh/run_on_threads.h"
#include "tools/check_batch.h"
#include "tools/check_model_ops.h"
#include "tools/check_step.h"
#include "tools/durable_file.h"
#include "tools/memory_plan.h"

namespace strake {
namespace {

constexpr MeshVector kOneRank = {.dp = 1, .pp = 1, .cp = 1, .tp = 1};

// Of the ops' table, tokens are those of the first micro-batch.
std::vector<OpCheck> OpsOf(const CheckCommand& command, const Tensor& tokens,
                           const Tensor& targets) {
  return ModelOps(command.RankOptions(), static_cast<int>(command.config.layout.tp), tokens,
                  targets);
}

absl::Status Explain(const char* what, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(what, ": ", status.message()));
}

void PrintLines(const std::vector<CheckLine>& lines, Progress* screen) {
  screen->Print(CheckTableHead());
  for (const CheckLine& line : lines) screen->Print(CheckTableRow(line));
  screen->Print("  " + CheckSummary(lines));
}

void PrintHeader(const CheckCommand& command, const CheckMemoryPlan& plan, Progress* screen) {
  const CheckConfig& c = command.config;
  for (const std::string& notice : command.notices) screen->Print("note: " + notice);
  screen->Print(absl::StrFormat(
      "checking %s (%s parameters), batch %d x %d in micro-batches of %d, tp %d x dp %d%s, ZeRO "
      "%d, "
      "%s, %s ops, %d threads per rank, on the %s; memory %s",
      c.init_from.empty() ? c.model : c.init_from, FormatCount(NumParameters(command.model)),
      c.global_batch, c.seq_len, c.micro_batch, c.layout.tp, c.layout.dp,
      c.layout.sequence_parallel ? ", sequence parallel" : "", c.layout.zero, c.machine.dtype,
      c.machine.ops, c.machine.threads, c.machine.device,
      FormatBytes(static_cast<double>(plan.peak_bytes()))));
}

// The step by definition, which is what takes long.
absl::StatusOr<std::unique_ptr<WholeStep>> TimeWholeStep(const CheckCommand& command,
                                                         const StepBatch& batch, Progress* screen) {
  const double flops = TrainingFlopsPerToken(command.model, command.config.seq_len) *
                       static_cast<double>(command.config.global_batch * command.config.seq_len);
  screen->Print(absl::StrFormat(
      "model: the step by definition, in f64 (2 x %s floating-point operations: the slow part; "
      "once more with every weight off by one rounding, for the tolerances) ...",
      FormatCount(flops)));
  const double start = MonotonicSeconds();
  auto truth = ComputeWholeStep(command, batch, screen);
  if (!truth.ok()) return Explain("the step by definition, in f64", truth.status());
  screen->Print(absl::StrFormat("  took %s; loss %.6f", FormatDuration(MonotonicSeconds() - start),
                                (*truth)->loss));
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
    if (!status.ok()) return Explain("the step on one rank", status);
  }
  report->model = comparison.Lines();
  report->model_coverage = comparison.Coverage();
  screen->Print("model: one rank against it");
  PrintLines(report->model, screen);
  screen->Print("  " + CoverageText(*report->model_coverage));
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
  if (!status.ok()) return Explain("the step on the ranks of the layout", status);
  report->layout = comparison.Lines();
  report->layout_coverage = comparison.Coverage();
  screen->Print(absl::StrCat("layout: ", layout.num_ranks(), " ranks against it"));
  PrintLines(report->layout, screen);
  screen->Print("  " + CoverageText(*report->layout_coverage));
  return absl::OkStatus();
}

absl::Status WriteReport(const CheckCommand& command, const CheckReport& report, double seconds) {
  if (command.config.report.empty()) return absl::OkStatus();
  nlohmann::ordered_json json;
  json["config"] = ToJson(command.config);
  json["parameters"] = NumParameters(command.model);
  json.update(ToJson(report));
  json["seconds"] = seconds;
  return WriteFileDurably(command.config.report, json.dump(1) + "\n");
}

}  // namespace

size_t CheckMemoryPlan::peak_bytes() const {
  return std::max({ops_bytes, truth_bytes, model_bytes, layout_bytes});
}

CheckMemoryPlan PlanCheckMemory(const CheckCommand& command) {
  CheckMemoryPlan plan;
  const EngineOptions options = command.RankOptions();
  ThreadTeam team(options.num_threads);
  const Tensor tokens(nullptr, DType::kI32, {options.micro_batch * options.seq_len});
  for (const OpCheck& check : OpsOf(command, tokens, tokens)) {
    plan.ops_bytes = std::max(plan.ops_bytes, OpCheckBytes(check, team, options.op_set));
  }
  const size_t num_parameters = NumParameters(command.model);
  // WholeStep: weights and gradients in double.
  const size_t truth = 2 * sizeof(double) * num_parameters;
  // ShardComparison, twice: a copy of each element in f32 and a count.
  const size_t comparison = 2 * (sizeof(float) + sizeof(int16_t)) * num_parameters;
  const MemoryPlan f64 = PlanMemory(command.TruthOptions(), kOneRank, 0);
  // No optimizer runs there, and untouched memory is none.
  plan.truth_bytes = truth + f64.total_bytes() - f64.optimizer_bytes;
  plan.model_bytes =
      truth + comparison + PlanMemory(command.WholeOptions(), kOneRank, 0).total_bytes();
  const LayoutConfig& layout = command.config.layout;
  if (layout.num_ranks() > 1) {
    plan.layout_bytes = truth + comparison +
                        layout.num_ranks() * PlanMemory(options, layout.sizes(), 0).total_bytes();
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
  std::vector<CheckLine> all;
  screen->Print(
      absl::StrCat("ops: ", ops.size(), " of a rank, each against its definition in f64"));
  screen->Print(CheckTableHead());
  for (const OpCheck& check : ops) {
    const auto lines =
        CheckOp(check, static_cast<uint64_t>(command.config.seed), team, options.op_set);
    if (!lines.ok()) return Explain(check.op.c_str(), lines.status());
    for (const CheckLine& line : *lines) {
      screen->Print(CheckTableRow(line));
      all.push_back(line);
    }
  }
  screen->Print("  " + CheckSummary(all));
  return all;
}

absl::StatusOr<CheckReport> RunCheck(const CheckCommand& command, Progress* screen) {
  const double start = MonotonicSeconds();
  const LayoutConfig& layout = command.config.layout;
  // First, since it takes sizes of any model.
  STRAKE_RETURN_IF_ERROR(CheckMemory(command.RankOptions(), layout.sizes(), layout.num_ranks()));
  const CheckMemoryPlan plan = PlanCheckMemory(command);
  STRAKE_RETURN_IF_ERROR(CheckMemoryFor(plan, AvailableMemoryBytes().value_or(plan.peak_bytes())));
  STRAKE_ASSIGN_OR_RETURN(const StepBatch batch, LoadStepBatch(command));
  STRAKE_RETURN_IF_ERROR(CheckInitFrom(command));
  PrintHeader(command, plan, screen);

  CheckReport report;
  const int64_t first = command.config.micro_batch * command.config.seq_len;
  STRAKE_ASSIGN_OR_RETURN(report.ops, CheckOps(command,
                                               OpsOf(command, batch.tokens.tensor().Rows(0, first),
                                                     batch.targets.tensor().Rows(0, first)),
                                               screen));
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<WholeStep> truth,
                          TimeWholeStep(command, batch, screen));
  STRAKE_RETURN_IF_ERROR(CheckModel(command, batch, *truth, screen, &report));
  if (layout.num_ranks() > 1) {
    STRAKE_RETURN_IF_ERROR(CheckRanks(command, batch, *truth, screen, &report));
  }
  const double seconds = MonotonicSeconds() - start;
  STRAKE_RETURN_IF_ERROR(WriteReport(command, report, seconds));
  screen->Print(absl::StrCat("checked in ", FormatDuration(seconds)));
  return report;
}

}  // namespace strake
