// Counts the collectives of a training step, and estimates their time:
// `bazel run //tools:comm_cost -- --help`.

#include "train/plan/comm_cost.h"

#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/base/format_quantity.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "models/families/families.h"
#include "nlohmann/json.hpp"
#include "tools/cli/options.h"
#include "tools/cli/program.h"
#include "tools/cli/step_config.h"
#include "tools/cli/user_paths.h"
#include "train/engine/stage_models.h"
#include "train/engine/step_record.h"

namespace strake {
namespace {

// Members are named like their flags.
struct CommCostConfig : StepConfig {
  double bandwidth = 1e10;
  double latency = 5e-6;
  std::string format = "table";
};

void AddCommCostOptions(CommCostConfig* c, OptionSet* options) {
  AddStepOptions(c, options);
  options->Group("Estimate");
  options->Add("rank", &c->rank, "the rank whose collectives are counted", Range::AtLeast(0));
  options->Add("bandwidth", &c->bandwidth,
               "bytes per second that a rank sends to its neighbour in a ring; the default is a "
               "plausible network, not a measurement",
               Range::Above(0));
  options->Add("latency", &c->latency,
               "seconds per message; the default is likewise not a measurement", Range::AtLeast(0));
  options->Add("format", &c->format, "of the output", {"table", "json"}).FlagOnly();
}

CommCostOptions CostOptions(const CommCostConfig& c, const ModelConfig& model) {
  return {c.RankOptions(model), c.layout.sizes(), static_cast<int>(c.rank), c.num_micro_batches()};
}

using Json = nlohmann::ordered_json;

struct Total {
  int64_t calls = 0, bytes = 0;
  double ring_bytes = 0, seconds = 0;
};

// Sums the rows of `axis`, or all rows where it is empty.
Total TotalOf(const std::vector<CommCostRow>& rows, const std::string& axis, const CommLink& link) {
  Total total;
  for (const CommCostRow& row : rows) {
    if (!axis.empty() && row.axis != axis) continue;
    total.calls += row.calls;
    total.bytes += row.bytes;
    total.ring_bytes += row.RingBytes();
    total.seconds += row.Seconds(link);
  }
  return total;
}

nlohmann::ordered_json Report(nlohmann::ordered_json settings, const std::vector<CommCostRow>& rows,
                              const CommLink& link) {
  nlohmann::ordered_json collectives = nlohmann::ordered_json::array();
  for (const CommCostRow& row : rows) {
    collectives.push_back({{"phase", CommPhaseName(row.phase)},
                           {"axis", row.axis},
                           {"collective", CollectiveName(row.collective)},
                           {"calls", row.calls},
                           {"bytes", row.bytes},
                           {"ring_bytes", row.RingBytes()},
                           {"seconds", row.Seconds(link)}});
  }
  const Total total = TotalOf(rows, /*axis=*/"", link);
  settings["collectives"] = std::move(collectives);
  settings["total"] = {{"calls", total.calls},
                       {"bytes", total.bytes},
                       {"ring_bytes", total.ring_bytes},
                       {"seconds", total.seconds}};
  return settings;
}

void PrintLine(const std::string& phase, const std::string& axis, const std::string& ranks,
               const std::string& collective, const Total& cost) {
  std::cout << absl::StrFormat("%-18s %-5s %5s %-19s %8d %10s %10s %12.3f\n", phase, axis, ranks,
                               collective, cost.calls, FormatBytes(double(cost.bytes)),
                               FormatBytes(cost.ring_bytes), 1e3 * cost.seconds);
}

std::string MemoryText(const MemoryPlan& plan) {
  const auto bytes = [](size_t count) { return FormatBytes(static_cast<double>(count)); };
  return absl::StrCat(bytes(plan.total_bytes()), ": weights ", bytes(plan.parameter_bytes),
                      ", gradients ", bytes(plan.gradient_bytes), ", optimizer ",
                      bytes(plan.optimizer_bytes), ", activations ", bytes(plan.activation_bytes),
                      plan.library_bytes > 0 ? ", libraries " + bytes(plan.library_bytes) : "");
}

Json MemoryJson(const MemoryPlan& plan) {
  return {{"total_bytes", plan.total_bytes()},         {"weight_bytes", plan.parameter_bytes},
          {"gradient_bytes", plan.gradient_bytes},     {"optimizer_bytes", plan.optimizer_bytes},
          {"activation_bytes", plan.activation_bytes}, {"library_bytes", plan.library_bytes}};
}

// ", pp 2 (stage 0, 1f1b, layers 9,3)", or nothing without a pipeline.
std::string StagesText(const CommCostConfig& c, const CommCostOptions& cost) {
  const int stages = cost.sizes.pp;
  if (stages == 1) return "";
  return absl::StrCat(", pp ", stages, " (stage ", CoordinatesOf(cost.sizes, cost.rank).pp, ", ",
                      c.layout.pp_schedule, ", layers ",
                      absl::StrJoin(LayersOfParts(cost, stages), ","), ")");
}

void PrintTable(const CommCostConfig& c, const CommCostOptions& cost, const MemoryPlan& memory,
                const std::vector<CommCostRow>& rows, const CommLink& link) {
  std::cout << absl::StrFormat(
      "%s (%s parameters), %d x %d tokens of %d sequences per step, %s\n"
      "rank %d of tp %d%s%s, dp %d, sequence parallelism %s, zero %d%s\n"
      "memory of the rank: %s\n"
      "per step; ms at %g bytes/s and %g s per message, as if no two collectives and no "
      "computation ran at once\n\n",
      c.model, FormatCount(NumParameters(cost.model)), c.micro_batch, c.seq_len, c.global_batch,
      c.dtype, c.rank, c.layout.tp,
      c.layout.cp > 1 ? absl::StrCat(", cp ", c.layout.cp, " (", c.layout.cp_comm, ")") : "",
      StagesText(c, cost), c.layout.dp, c.layout.sequence_parallel ? "on" : "off", c.layout.zero,
      c.layout.grad_reduce_dtype == "bf16" ? ", gradients reduced in bf16" : "", MemoryText(memory),
      link.bytes_per_second, link.latency_seconds);
  std::cout << absl::StrFormat("%-18s %-5s %5s %-19s %8s %10s %10s %12s\n", "phase", "axis",
                               "ranks", "collective", "calls", "bytes", "ring bytes", "ms");
  for (const CommCostRow& row : rows) {
    PrintLine(CommPhaseName(row.phase), row.axis, absl::StrCat(row.num_ranks),
              CollectiveName(row.collective),
              {row.calls, row.bytes, row.RingBytes(), row.Seconds(link)});
  }
  for (const std::string axis : {"tp", "kv", "pp", "cp", "dp", "dp_cp"}) {
    const Total total = TotalOf(rows, axis, link);
    if (total.calls > 0) PrintLine("total", axis, "", "", total);
  }
  PrintLine("total", "all", "", "", TotalOf(rows, /*axis=*/"", link));
}

absl::Status PrintCommCost(int argc, char** argv) {
  ChangeToUserDirectory();
  CommCostConfig config;
  OptionSet options("comm_cost");
  AddCommCostOptions(&config, &options);
  STRAKE_ASSIGN_OR_RETURN(const bool helped, ParseFlagsOrHelp(argc, argv, &options));
  if (helped) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(const ModelConfig model,
                          FindModelConfig(config.model, /*notices=*/nullptr));
  STRAKE_RETURN_IF_ERROR(ResolveStep(options, model, &config));
  STRAKE_ASSIGN_OR_RETURN(const std::vector<CommCostRow> rows,
                          CommCost(CostOptions(config, model)));
  const CommCostOptions cost = CostOptions(config, model);
  const MemoryPlan memory = PlanMemory(cost, cost.sizes, cost.rank);
  const CommLink link = {config.bandwidth, config.latency};
  if (config.format == "json") {
    Json report = Report(options.ToJson(), rows, link);
    report["memory"] = MemoryJson(memory);
    std::cout << JsonText(report) << "\n";
  } else {
    PrintTable(config, cost, memory, rows, link);
  }
  return FlushStdout();
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) { return strake::ProgramMain(argc, argv, strake::PrintCommCost); }
