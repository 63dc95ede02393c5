// Draws the schedule of a pipeline, and simulates it: `bazel run //tools:schedule -- --help`.

#include "parallel/pipeline/schedule.h"

#include <cstdint>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/base/format_quantity.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "parallel/pipeline/simulation.h"
#include "tools/cli/options.h"
#include "tools/cli/program.h"
#include "tools/scheduling/schedule_picture.h"

namespace strake {
namespace {

// Members are named like their flags.
struct ScheduleConfig {
  int64_t pp = 4;
  std::string pp_schedule = "1f1b";
  int64_t pp_chunks = 1;
  int64_t pp_in_flight = 0;
  int64_t micro_batches = 8;
  PipelineCosts costs;
  std::string format = "text";
  int64_t width = 100;
};

void AddScheduleOptions(ScheduleConfig* c, OptionSet* options) {
  const Range count = Range::Between(1, 1024), cost = Range::Between(0, 100);
  options->Group("Pipeline");
  options->Add("pp", &c->pp, "stages", count);
  options->Add("pp_schedule", &c->pp_schedule, "the kind of schedule", PipelineKindNames());
  options->Add("pp_chunks", &c->pp_chunks, "parts of the model per stage", Range::Between(1, 26));
  options->Add("pp_in_flight", &c->pp_in_flight,
               "passes through a chunk whose activations a stage of zero_bubble may hold; 0: as "
               "many as stage 0 of 1f1b or interleaved",
               Range::Between(0, 1024 * 26));
  options->Add("micro_batches", &c->micro_batches, "micro-batches per step", count);
  options->Group("Times, in any unit");
  options->Add("forward", &c->costs.forward, "of a forward pass through a chunk",
               {.min = 0, .max = 100, .open_min = true});
  options->Add("input_gradient", &c->costs.input_gradient, "of its input gradient", cost);
  options->Add("weight_gradient", &c->costs.weight_gradient, "of its weight gradient", cost);
  options->Add("transfer", &c->costs.transfer, "from a pass to the next stage", cost);
  options->Group("Output");
  options
      ->Add("format", &c->format, "a picture of characters, an SVG drawing, or numbers",
            {"text", "svg", "json"})
      .FlagOnly();
  options->Add("width", &c->width, "columns of the picture", Range::AtLeast(20)).FlagOnly();
}

PipelineShape ShapeOf(const ScheduleConfig& c) {
  return {.kind = PipelineKindOf(c.pp_schedule),
          .stages = static_cast<int>(c.pp),
          .chunks = static_cast<int>(c.pp_chunks),
          .micro_batches = static_cast<int>(c.micro_batches),
          .in_flight = static_cast<int>(c.pp_in_flight)};
}

// Larger schedules take long, and nobody reads them.
constexpr int64_t kMaxPasses = 1 << 16;
constexpr double kMaxColumns = 1e6;

absl::Status CheckSize(const ScheduleConfig& c) {
  const int64_t passes = c.pp * c.pp_chunks * c.micro_batches;
  if (passes <= kMaxPasses) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "--pp=%d, --pp_chunks=%d and --micro_batches=%d make %d forward passes, more than %d: take "
      "smaller numbers",
      c.pp, c.pp_chunks, c.micro_batches, passes, kMaxPasses));
}

absl::Status CheckColumns(const PipelineSimulation& simulation, bool has_chunks) {
  const double columns = ColumnsOfSchedule(simulation, has_chunks);
  if (columns <= kMaxColumns) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "the picture would have %g columns, more than %g: --forward, --input_gradient, "
      "--weight_gradient and --transfer must differ less, or take --format=json",
      columns, kMaxColumns));
}

void PrintText(const ScheduleConfig& c, const PipelineSimulation& simulation) {
  std::cout << absl::StrFormat(
      "%s: %d %s of %d %s, %d %s\n"
      "time %g, idle %.1f %%, passes in flight by stage %s\n\n%s",
      c.pp_schedule, c.pp, Plural(c.pp, "stage"), c.pp_chunks, Plural(c.pp_chunks, "chunk"),
      c.micro_batches, c.micro_batches == 1 ? "micro-batch" : "micro-batches", simulation.time,
      100 * simulation.IdleShare(), absl::StrJoin(simulation.peak_in_flight, " "),
      TextOfSchedule(simulation, c.pp_chunks > 1, static_cast<int>(c.width)));
}

nlohmann::ordered_json Report(nlohmann::ordered_json settings,
                              const PipelineSimulation& simulation) {
  static constexpr const char* kPasses[] = {"forward", "input_gradient", "weight_gradient"};
  settings["time"] = simulation.time;
  settings["idle_share"] = simulation.IdleShare();
  settings["peak_in_flight"] = simulation.peak_in_flight;
  nlohmann::ordered_json stages = nlohmann::ordered_json::array();
  for (const std::vector<TimedAction>& stage : simulation.stages) {
    nlohmann::ordered_json actions = nlohmann::ordered_json::array();
    for (const TimedAction& timed : stage) {
      actions.push_back({{"pass", kPasses[static_cast<int>(timed.action.pass)]},
                         {"micro_batch", timed.action.micro_batch},
                         {"chunk", timed.action.chunk},
                         {"begin", timed.begin},
                         {"end", timed.end}});
    }
    stages.push_back(std::move(actions));
  }
  settings["stages"] = std::move(stages);
  return settings;
}

absl::Status PrintSchedule(int argc, char** argv) {
  ScheduleConfig config;
  OptionSet options("schedule");
  AddScheduleOptions(&config, &options);
  STRAKE_ASSIGN_OR_RETURN(const bool helped, ParseFlagsOrHelp(argc, argv, &options));
  if (helped) return absl::OkStatus();
  STRAKE_RETURN_IF_ERROR(CheckSize(config));
  const PipelineShape shape = ShapeOf(config);
  STRAKE_RETURN_IF_ERROR(CheckPipelineShape(shape));
  STRAKE_ASSIGN_OR_RETURN(const PipelineSimulation simulation,
                          SimulatePipeline(shape, config.costs));
  if (config.format != "json") {
    STRAKE_RETURN_IF_ERROR(CheckColumns(simulation, shape.chunks > 1));
  }
  if (config.format == "json") {
    std::cout << JsonText(Report(options.ToJson(), simulation)) << "\n";
  } else if (config.format == "svg") {
    std::cout << SvgOfSchedule(simulation, shape.chunks > 1);
  } else {
    PrintText(config, simulation);
  }
  return FlushStdout();
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) { return strake::ProgramMain(argc, argv, strake::PrintSchedule); }
