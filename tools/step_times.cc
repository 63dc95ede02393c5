// Forecasts the time of a training step on GPUs, from the calls that a dry run records:
// `bazel run //tools:step_times -- --help`.

#include "train/plan/step_times.h"

#include <cstdint>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/dtype.h"
#include "core/base/format_quantity.h"
#include "core/base/json.h"
#include "core/base/op_profile.h"
#include "core/base/status_macros.h"
#include "core/device/op_call.h"
#include "models/families/families.h"
#include "models/model_config.h"
#include "nlohmann/json.hpp"
#include "tools/cli/options.h"
#include "tools/cli/program.h"
#include "tools/cli/step_config.h"
#include "tools/cli/user_paths.h"
#include "train/engine/step_record.h"
#include "train/plan/gpu_limits.h"
#include "train/plan/gpu_rates.h"

namespace strake {
namespace {

using Json = nlohmann::ordered_json;

// Members are named like their flags.
struct StepTimesConfig : StepConfig {
  std::string gpu = "H200";
  bool rates = false;
  std::string format = "table";
};

void AddStepTimesOptions(StepTimesConfig* c, OptionSet* options) {
  c->device = "cuda";
  c->dtype = "bf16";
  AddStepOptions(c, options);
  options->Group("Forecast");
  options->Add("rank", &c->rank, "the rank whose step is forecast", Range::AtLeast(0));
  options->Add("gpu", &c->gpu, "each rank has one of these, all connected by NVLink",
               {"H200", "H100"});
  options->Add("rates", &c->rates, "print the rates, with their sources, and nothing else")
      .FlagOnly();
  options->Add("format", &c->format, "of the output; json also lists the calls", {"table", "json"})
      .FlagOnly();
}

// A step, forecast, and the figures that follow from its time.
struct Report {
  StepTimes times = {};
  double tokens = 0;           // of all ranks
  double flops_per_token = 0;  // as MFU counts them
  double peak_flops = 0;       // of all GPUs

  Forecast TokensPerSecond(const Forecast& seconds) const { return tokens / seconds; }
  Forecast Mfu(const Forecast& seconds) const {
    return TokensPerSecond(seconds) * flops_per_token / peak_flops;
  }
};

struct RemedyTime {
  std::string name;
  Forecast seconds;  // of a step with it
};

// Each remedy alone, and then all of them.
absl::StatusOr<std::vector<RemedyTime>> RemedyTimes(const std::vector<OpCall>& calls,
                                                    const GpuRates& rates) {
  std::vector<RemedyTime> result;
  const auto add = [&](const char* name, const StepRemedies& remedies) -> absl::Status {
    STRAKE_ASSIGN_OR_RETURN(const StepTimes with, ForecastStep(calls, rates, remedies));
    result.push_back({name, with.sum.seconds});
    return absl::OkStatus();
  };
  StepRemedies all;
  for (const StepRemedy& remedy : AllStepRemedies()) {
    StepRemedies one;
    one.*remedy.member = all.*remedy.member = true;
    STRAKE_RETURN_IF_ERROR(add(remedy.name, one));
  }
  STRAKE_RETURN_IF_ERROR(add("all of these", all));
  return result;
}

Json ToJson(const Forecast& forecast) {
  return {{"low", forecast.low}, {"expected", forecast.expected}, {"ceiling", forecast.ceiling}};
}

Json ToJson(const OpCall& call) {
  Json json = {{"op", call.op}, {"pass", PassName(call.pass)}, {"layer", call.layer}};
  if (call.is_collective()) {
    json["axis"] = call.axis;
    json["ranks"] = call.num_ranks;
  }
  json["times"] = call.times;
  json["flops"] = call.cost.flops;
  json["bytes"] = call.cost.bytes;
  json["operands"] = Json::array();
  for (const OpOperand& operand : call.operands) {
    const std::vector<int64_t> shape(operand.shape.begin(), operand.shape.end());
    json["operands"].push_back({{"name", operand.name},
                                {"role", OpRoleName(operand.role)},
                                {"dtype", DTypeName(operand.dtype)},
                                {"shape", shape}});
  }
  json["attributes"] = Json::object();
  for (const OpAttribute& attribute : call.attributes) {
    json["attributes"][attribute.name] = attribute.value;
  }
  return json;
}

Json ToJson(const CallTimeRow& row) {
  return {{"class", row.name},
          {"flops", row.flops},
          {"bytes", row.bytes},
          {"kernels", row.kernels},
          {"seconds", ToJson(row.seconds)}};
}

Json ReportJson(Json settings, const ModelConfig& model, const Report& report,
                const std::vector<RemedyTime>& remedies, const StepRecord& record) {
  const Forecast& seconds = report.times.sum.seconds;
  settings["parameters"] = NumParameters(model);
  settings["flops_per_token"] = report.flops_per_token;
  settings["planned_bytes"] = record.memory.total_bytes();
  settings["seconds_per_step"] = ToJson(seconds);
  settings["tokens_per_second"] = ToJson(report.TokensPerSecond(seconds));
  settings["mfu"] = ToJson(report.Mfu(seconds));
  for (const char* list : {"classes", "remedies", "calls"}) settings[list] = Json::array();
  for (const CallTimeRow& row : report.times.rows) settings["classes"].push_back(ToJson(row));
  for (const RemedyTime& remedy : remedies) {
    settings["remedies"].push_back(
        {{"remedy", remedy.name}, {"seconds_per_step", ToJson(remedy.seconds)}});
  }
  for (const OpCall& call : record.calls) settings["calls"].push_back(ToJson(call));
  return settings;
}

void PrintRates(const GpuRates& rates) {
  std::cout << "| rate | unit | low | expected | ceiling | from |\n|---|---|---|---|---|---|\n";
  for (const GpuRateRow& row : rates.rows()) {
    const Forecast value = row.value / row.scale;
    std::cout << absl::StrFormat("| %s | %s | %.4g | %.4g | %.4g | %s |\n", row.name, row.unit,
                                 value.low, value.expected, value.ceiling, row.source);
  }
}

std::string Cell(double value, double unit) {
  return value == 0 ? "" : absl::StrFormat("%.2f", value / unit);
}

void PrintClass(const CallTimeRow& row, double all_seconds) {
  std::cout << absl::StrFormat("| %-39s | %6s | %7s | %7s | %8.2f | %8.2f | %8.2f | %5.1f %% |\n",
                               row.name, Cell(row.flops, 1e12), Cell(row.bytes, 1e9),
                               row.kernels == 0 ? "" : absl::StrCat(row.kernels),
                               1e3 * row.seconds.low, 1e3 * row.seconds.expected,
                               1e3 * row.seconds.ceiling, 100 * row.seconds.expected / all_seconds);
}

void PrintClasses(const StepTimes& times) {
  std::cout << absl::StrFormat("| %-39s | %6s | %7s | %7s | %8s | %8s | %8s | %7s |\n", "class",
                               "TFLOP", "GB", "kernels", "low, ms", "expected", "ceiling", "share");
  std::cout << "|---|---|---|---|---|---|---|---|\n";
  for (const CallTimeRow& row : times.rows) PrintClass(row, times.sum.seconds.expected);
  PrintClass(times.sum, times.sum.seconds.expected);
}

void PrintFigures(const Report& report) {
  const Forecast speed = report.TokensPerSecond(report.times.sum.seconds);
  const Forecast mfu = 100 * report.Mfu(report.times.sum.seconds);
  std::cout << absl::StrFormat(
      "\n| | low | expected | ceiling |\n|---|---|---|---|\n"
      "| tokens/s | %.0f | %.0f | %.0f |\n| MFU | %.1f %% | %.1f %% | %.1f %% |\n",
      speed.low, speed.expected, speed.ceiling, mfu.low, mfu.expected, mfu.ceiling);
}

void PrintRemedies(const Report& report, const std::vector<RemedyTime>& remedies) {
  std::cout << "\n| remedy | saves, ms | tokens/s | MFU | MFU from low to ceiling |\n"
               "|---|---|---|---|---|\n";
  for (const RemedyTime& remedy : remedies) {
    const Forecast saved = report.times.sum.seconds - remedy.seconds;
    const Forecast mfu = 100 * report.Mfu(remedy.seconds);
    std::cout << absl::StrFormat(
        "| %-42s | %5.2f | %.0f | %.1f %% | %.1f to %.1f %% |\n", remedy.name, 1e3 * saved.expected,
        report.TokensPerSecond(remedy.seconds).expected, mfu.expected, mfu.low, mfu.ceiling);
  }
}

void PrintTables(const StepTimesConfig& c, const ModelConfig& model, const Report& report,
                 const std::vector<RemedyTime>& remedies) {
  std::cout << absl::StrFormat(
      "%s (%s parameters), %d sequences of %d tokens per step in micro-batches of %d, %s\n"
      "%d x %s: tp %d, dp %d, sequence parallelism %s, zero %d; %.3f GFLOP per token\n\n",
      c.model, FormatCount(NumParameters(model)), c.global_batch, c.seq_len, c.micro_batch, c.dtype,
      c.layout.num_ranks(), c.gpu, c.layout.tp, c.layout.dp,
      c.layout.sequence_parallel ? "on" : "off", c.layout.zero, report.flops_per_token / 1e9);
  PrintClasses(report.times);
  PrintFigures(report);
  PrintRemedies(report, remedies);
}

// `resolved` has the variables of `options`.
absl::Status PrintForecast(const OptionSet& options, const GpuRates& rates,
                           StepTimesConfig* resolved) {
  STRAKE_ASSIGN_OR_RETURN(const ModelConfig model,
                          FindModelConfig(resolved->model, /*notices=*/nullptr));
  STRAKE_RETURN_IF_ERROR(ResolveStep(options, model, resolved));
  const StepTimesConfig& config = *resolved;
  if (config.layout.pp > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--pp=", config.layout.pp,
                     ": a forecast is of ranks that compute the whole step, and stages wait for "
                     "each other; //tools:schedule shows for how long"));
  }
  if (config.layout.cp > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--cp=", config.layout.cp,
                     ": a forecast has no rates of attention to a part of the keys, nor of what it "
                     "hides; //tools:comm_cost tells the bytes that move"));
  }
  const StepRecord record = RecordStep(config.RankOptions(model), config.layout.sizes(),
                                       static_cast<int>(config.rank), config.num_micro_batches());
  Report report = {.tokens = static_cast<double>(config.global_batch * config.seq_len),
                   .flops_per_token = TrainingFlopsPerToken(model, config.seq_len),
                   .peak_flops = config.layout.num_ranks() * *NominalBf16Flops(config.gpu)};
  STRAKE_ASSIGN_OR_RETURN(report.times, ForecastStep(record.calls, rates));
  STRAKE_ASSIGN_OR_RETURN(const std::vector<RemedyTime> remedies, RemedyTimes(record.calls, rates));
  if (config.format == "json") {
    std::cout << JsonText(ReportJson(options.ToJson(), model, report, remedies, record)) << "\n";
  } else {
    PrintTables(config, model, report, remedies);
  }
  return FlushStdout();
}

absl::Status PrintStepTimes(int argc, char** argv) {
  ChangeToUserDirectory();
  StepTimesConfig config;
  OptionSet options("step_times");
  AddStepTimesOptions(&config, &options);
  STRAKE_ASSIGN_OR_RETURN(const bool helped, ParseFlagsOrHelp(argc, argv, &options));
  if (helped) return absl::OkStatus();
  if (config.device != "cuda" || config.dtype != "bf16") {
    return absl::InvalidArgumentError(
        absl::StrCat("--device=", config.device, " --dtype=", config.dtype,
                     ": there are rates for --device=cuda --dtype=bf16 alone"));
  }
  const GpuRates rates = *GpuRates::OfGpu(config.gpu);
  if (!config.rates) return PrintForecast(options, rates, &config);
  PrintRates(rates);
  return FlushStdout();
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) { return strake::ProgramMain(argc, argv, strake::PrintStepTimes); }
