#include "tools/checking/check_report.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

constexpr int kTitleColumns = 66, kOtherColumns = 31, kLeastTitleColumns = 12;

int TitleColumns(int columns) {
  if (columns == 0) return kTitleColumns;
  return std::clamp(columns - kOtherColumns, kLeastTitleColumns, kTitleColumns);
}

int64_t NumFailures(const std::vector<CheckLine>& lines) {
  return std::count_if(lines.begin(), lines.end(),
                       [](const CheckLine& line) { return !line.ok(); });
}

const CheckLine* FirstOf(const std::vector<CheckLine>& lines) {
  for (const CheckLine& line : lines) {
    if (!line.ok()) return &line;
  }
  return nullptr;
}

// "at [3, 7] on rank 1".
std::string Where(const CheckLine& line) {
  if (line.error == 0) return "";
  return absl::StrCat(line.index.empty() ? "" : " at " + ShapeString(line.index),
                      line.rank < 0 ? "" : absl::StrCat(" on rank ", line.rank));
}

nlohmann::ordered_json Number(double x) {
  return std::isfinite(x) ? nlohmann::ordered_json(x) : nlohmann::ordered_json();
}

nlohmann::ordered_json ToJson(const CheckLine& line) {
  nlohmann::ordered_json json;
  json["name"] = line.name;
  if (!line.pass.empty()) json["pass"] = line.pass;
  if (!line.layers.empty()) json["layers"] = line.layers;
  json["tensor"] = line.tensor;
  json["shape"] = std::vector<int64_t>(line.shape.begin(), line.shape.end());
  json["error"] = Number(line.error);
  json["tolerance"] = line.tolerance;
  json["ratio"] = Number(line.Ratio());
  json["ok"] = line.ok();
  json["index"] = std::vector<int64_t>(line.index.begin(), line.index.end());
  json["rank"] = line.rank < 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(line.rank);
  return json;
}

nlohmann::ordered_json ToJson(const std::vector<CheckLine>& lines) {
  auto json = nlohmann::ordered_json::array();
  for (const CheckLine& line : lines) json.push_back(ToJson(line));
  return json;
}

nlohmann::ordered_json ToJson(const std::optional<ShardCoverage>& coverage) {
  if (!coverage.has_value()) return nullptr;
  return {{"elements", coverage->num_elements},
          {"comparisons", coverage->num_comparisons},
          {"missed", coverage->num_missed},
          {"different", coverage->num_different},
          {"dirty", coverage->num_dirty}};
}

}  // namespace

int64_t CheckReport::num_lines() const {
  return static_cast<int64_t>(ops.size() + model.size() + layout.size());
}

int64_t CheckReport::num_failures() const {
  return NumFailures(ops) + NumFailures(model) + NumFailures(layout);
}

const CheckLine* CheckReport::FirstFailure() const {
  for (const auto* section : {&ops, &model, &layout}) {
    if (const CheckLine* line = FirstOf(*section)) return line;
  }
  return nullptr;
}

std::string CheckReport::Verdict() const {
  const CheckLine* first = FirstFailure();
  if (first == nullptr) {
    return absl::StrCat("PASS: all ", num_lines(), " comparisons are within their tolerances");
  }
  std::string text = absl::StrFormat(
      "FAIL: %d of %d comparisons exceed their tolerances. The first, in execution order: %s: "
      "error %.3g%s, tolerance %.3g.",
      num_failures(), num_lines(), first->Title(), first->error, Where(*first), first->tolerance);
  if (FirstOf(ops) != nullptr) {
    const bool spreads = FirstOf(model) != nullptr || FirstOf(layout) != nullptr;
    absl::StrAppend(&text, " This op is wrong by itself; it is called by: ", first->layers, ".",
                    spreads ? " What fails after it may follow from it." : "");
  } else if (FirstOf(model) != nullptr) {
    absl::StrAppend(&text,
                    " Every op is right by itself: look at how layers call them; or these weights "
                    "magnify rounding, and then random ones (no --init_from) pass.");
  } else {
    absl::StrAppend(&text,
                    " One rank computes the right step: look at the collectives and at what the "
                    "ranks hold.");
  }
  return text;
}

std::string CheckTableHead(int columns) {
  return absl::StrFormat("  %-*s %9s %9s %8s", TitleColumns(columns), "", "error", "tolerance",
                         "ratio");
}

std::string CheckTableRow(const CheckLine& line, int columns) {
  const int title_columns = TitleColumns(columns);
  std::string title = line.Title();
  if (columns > 0 && title.size() > static_cast<size_t>(title_columns)) {
    title = title.substr(0, title_columns - 3) + "...";
  }
  return absl::StrFormat("  %-*s %9.2e %9.2e %8.3f%s%s%s", title_columns, title, line.error,
                         line.tolerance, line.Ratio(), line.ok() ? "" : " EXCEEDED", Where(line),
                         line.layers.empty() ? "" : absl::StrCat("  (", line.layers, ")"));
}

std::string CheckSummary(const std::vector<CheckLine>& lines) {
  const auto worst = std::max_element(
      lines.begin(), lines.end(),
      [](const CheckLine& a, const CheckLine& b) { return a.Ratio() < b.Ratio(); });
  const int64_t failures = NumFailures(lines);
  std::string text =
      failures == 0
          ? absl::StrCat("all ", lines.size(), " comparisons within their tolerances")
          : absl::StrCat(failures, " of ", lines.size(), " comparisons exceed their tolerances");
  if (worst == lines.end()) return text;
  return absl::StrCat(text, absl::StrFormat("; the worst, at %.3f of its tolerance, is %s",
                                            worst->Ratio(), worst->Title()));
}

std::string CoverageText(const ShardCoverage& coverage) {
  if (coverage.num_missed > 0) {
    return absl::StrCat(coverage.num_missed, " of ", coverage.num_elements,
                        " gradient elements were not compared once for each rank that holds them");
  }
  return absl::StrCat("each of ", coverage.num_elements,
                      " gradient elements was compared once for each rank that holds it: ",
                      coverage.num_comparisons, " comparisons, ", coverage.num_different,
                      " copies with other bits than the first");
}

nlohmann::ordered_json ToJson(const CheckReport& report) {
  const CheckLine* first = report.FirstFailure();
  nlohmann::ordered_json json;
  json["gpu"] = report.gpu.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(report.gpu);
  json["ok"] = first == nullptr;
  json["first_failure"] = first == nullptr ? nlohmann::ordered_json() : ToJson(*first);
  json["ops"] = ToJson(report.ops);
  json["model"] = ToJson(report.model);
  json["layout"] =
      report.layout_coverage.has_value() ? ToJson(report.layout) : nlohmann::ordered_json();
  json["model_coverage"] = ToJson(report.model_coverage);
  json["layout_coverage"] = ToJson(report.layout_coverage);
  return json;
}

}  // namespace strake
