#include "train/report/run_report.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "train/report/report_template.h"
#include "train/run/run_record.h"

namespace strake {
namespace {

using Json = nlohmann::ordered_json;

// Parts of all curves of a page. A part has two points and a mean, in up to 90 bytes.
constexpr int kMaxParts = 28'000;
constexpr int kMaxPartsOfCurve = 2048;

absl::StatusOr<LoggedCurves> ReadMetrics(const std::string& directory) {
  const std::string path = directory + "/metrics.jsonl";
  auto logged = ReadRunCurves(path);
  if (absl::IsNotFound(logged.status())) {
    return absl::NotFoundError(absl::StrCat(
        directory, ": has no metrics.jsonl; a run's folder is needed, the --out of training"));
  }
  if (logged.ok() && logged->curves.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(path,
                     ": has no line of a step or a validation; a run that began just now has one "
                     "after its first step"));
  }
  return logged;
}

// The curves are shown alone where run.json is missing.
absl::Status AddRecord(const std::string& directory, RunReport* report) {
  const auto record = ReadRunRecord(directory);
  if (absl::IsNotFound(record.status())) return absl::OkStatus();
  STRAKE_RETURN_IF_ERROR(record.status());
  report->config = record->config;
  const auto steps = report->config.find("steps");
  if (steps != report->config.end() && steps->is_number_unsigned()) {
    report->num_steps = steps->get<int64_t>();
  }
  return absl::OkStatus();
}

void NoteLines(const LoggedCurves& logged, RunHistory* history) {
  const auto note = [&](int64_t count, const char* what) {
    if (count == 0) return;
    history->Add({{"kind", "note"},
                  {"step", static_cast<uint64_t>(logged.curves.last_step())},
                  {"text", absl::StrCat(what, ": ", count)}});
  };
  note(logged.num_damaged, "lines of metrics.jsonl that could not be read");
  note(logged.num_replaced, "lines of metrics.jsonl whose steps were made once more");
}

std::string StateOf(const RunReport& report) {
  const std::string last = report.history.LastState();
  if (last == "stopped" || last == "finished") return last;
  const bool all = report.num_steps > 0 && report.curves.last_step() >= report.num_steps;
  return all ? "finished" : "unfinished";
}

std::string RunJson(const RunReport& report, int max_parts) {
  Json json = {{"name", report.name}, {"state", report.state}};
  json["step"] = report.curves.last_step();
  if (report.num_steps > 0) json["steps"] = report.num_steps;
  if (report.curves.epoch().has_value()) json["epoch"] = *report.curves.epoch();
  if (report.curves.time().has_value()) json["time"] = *report.curves.time();
  json["config"] = report.config;
  json.update(report.history.Members());
  std::string text = JsonText(json);
  text.pop_back();  // the brace
  return absl::StrCat(text, ",\"curves\":", report.curves.Json(max_parts), "}");
}

std::string DataJson(const std::vector<const RunReport*>& runs) {
  int num_curves = 1;
  for (const RunReport* run : runs) num_curves += run->curves.num_curves();
  const int max_parts = std::clamp(kMaxParts / num_curves, 1, kMaxPartsOfCurve);
  std::string json = "{\"format_version\":1,\"runs\":[";
  for (const RunReport* run : runs) {
    absl::StrAppend(&json, run == runs.front() ? "" : ",", RunJson(*run, max_parts));
  }
  // A text with "</script>" must not end the element.
  return absl::StrReplaceAll(json + "]}", {{"<", "\\u003c"}});
}

// A name as HTML. Bytes that are not UTF-8 become U+FFFD, as in the page's data.
std::string HtmlText(const std::string& name) {
  const auto text = ParseJson(JsonText(nlohmann::json(name)), name).value().get<std::string>();
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

}  // namespace

absl::StatusOr<RunReport> ReadRunReport(const std::string& directory) {
  RunReport report{.name = directory};
  STRAKE_ASSIGN_OR_RETURN(LoggedCurves logged, ReadMetrics(directory));
  STRAKE_ASSIGN_OR_RETURN(report.history,
                          ReadRunHistory(absl::StrCat(directory, "/", kHistoryName)));
  STRAKE_RETURN_IF_ERROR(AddRecord(directory, &report));
  NoteLines(logged, &report.history);
  report.curves = std::move(logged.curves);
  report.state = StateOf(report);
  return report;
}

std::string ReportPage(const std::vector<const RunReport*>& runs) {
  const std::string name = runs.size() == 1 ? runs[0]->name : absl::StrCat(runs.size(), " runs");
  return absl::StrReplaceAll(ReportSkeleton(), {{"@TITLE@", HtmlText(name)},
                                                {"@STYLE@", ReportStyle()},
                                                {"@SCRIPT@", ReportScript()},
                                                {"@DATA@", DataJson(runs)}});
}

}  // namespace strake
