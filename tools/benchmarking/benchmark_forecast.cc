#include "tools/benchmarking/benchmark_forecast.h"

#include <ostream>

#include "absl/strings/str_format.h"
#include "core/base/op_profile.h"
#include "nlohmann/json.hpp"
#include "train/plan/gpu_rates.h"

namespace strake {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const Forecast& forecast) {
  return {{"low", forecast.low}, {"expected", forecast.expected}, {"ceiling", forecast.ceiling}};
}

}  // namespace

void AddForecast(const absl::StatusOr<StepTimes>& forecast, double num_tokens, Json* report) {
  if (!forecast.ok()) {
    (*report)["no_forecast"] = std::string(forecast.status().message());
    return;
  }
  const Forecast& seconds = forecast->sum.seconds;
  (*report)["forecast"] = {{"seconds_per_step", ToJson(seconds)},
                           {"tokens_per_second", ToJson(num_tokens / seconds)}};
  for (const auto& [op_and_pass, op_seconds] : forecast->ops) {
    for (Json& op : (*report)["op_kinds"]) {
      if (op["op"] != op_and_pass.first || op["pass"] != PassName(op_and_pass.second)) continue;
      op["forecast_seconds_per_step"] = ToJson(op_seconds);
    }
  }
}

void PrintForecast(const Json& report, std::ostream* out) {
  if (!report.contains("forecast")) {
    *out << "forecast: none, since " << report["no_forecast"].get<std::string>() << "\n";
    return;
  }
  const Json& speed = report["forecast"]["tokens_per_second"];
  const double expected = speed["expected"];
  *out << absl::StrFormat(
      "forecast: %.0f tokens/s, from %.0f to %.0f; measured are %.2f times as many\n", expected,
      speed["low"].get<double>(), speed["ceiling"].get<double>(),
      report["tokens_per_second"].get<double>() / expected);
}

std::string ForecastHeading(const Json& report) {
  return report.contains("forecast") ? "    forecast  from low to ceiling" : "";
}

std::string ForecastCells(const Json& op) {
  if (!op.contains("forecast_seconds_per_step")) return "";
  const Json& seconds = op["forecast_seconds_per_step"];
  return absl::StrFormat("%12.3f  %.3f to %.3f", 1e3 * seconds["expected"].get<double>(),
                         1e3 * seconds["low"].get<double>(),
                         1e3 * seconds["ceiling"].get<double>());
}

}  // namespace strake
