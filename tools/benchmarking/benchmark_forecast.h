// The forecast of a step in the report of //tools:benchmark.
#ifndef STRAKE_TOOLS_BENCHMARKING_BENCHMARK_FORECAST_H_
#define STRAKE_TOOLS_BENCHMARKING_BENCHMARK_FORECAST_H_

#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"
#include "train/plan/step_times.h"

namespace strake {

// Adds the step's forecast to the report, and to each of its "op_kinds"; or why there is none.
void AddForecast(const absl::StatusOr<StepTimes>& forecast, double num_tokens,
                 nlohmann::ordered_json* report);

// Prints the line of the step.
void PrintForecast(const nlohmann::ordered_json& report, std::ostream* out);

// The heading of the cells of ops, empty where there is no forecast; and those of one op.
std::string ForecastHeading(const nlohmann::ordered_json& report);
std::string ForecastCells(const nlohmann::ordered_json& op);

}  // namespace strake

#endif  // STRAKE_TOOLS_BENCHMARKING_BENCHMARK_FORECAST_H_
