#include "train/run/metrics_log.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "core/base/durable_file.h"
#include "core/base/json.h"
#include "core/base/path_kind.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

// ",\"targets\":12"; empty where they are all tokens.
std::string TargetsText(int64_t targets, int64_t tokens) {
  return targets == tokens ? "" : absl::StrCat(",\"targets\":", targets);
}

// ",\"mfu\":0.5"; empty where it is not known.
std::string MfuText(double mfu) {
  return mfu == 0 ? "" : absl::StrCat(",\"mfu\":", JsonNumber(mfu));
}

// ",\"sources\":{...}"; empty without sources.
std::string SourcesText(const std::vector<SourceMetrics>& sources) {
  if (sources.empty()) return "";
  const auto add = [](std::string* text, const SourceMetrics& source) {
    absl::StrAppend(text, JsonText(nlohmann::json(source.name)), ":{\"tokens\":", source.tokens,
                    TargetsText(source.targets, source.tokens),
                    ",\"loss\":", JsonNumber(source.loss), "}");
  };
  return absl::StrCat(",\"sources\":{", absl::StrJoin(sources, ",", add), "}");
}

struct Lines {
  std::string kept;        // of steps up to the last
  std::string damaged;     // no lines of a log
  uint64_t last_step = 0;  // of the lines that are kept
};

Lines Sort(absl::string_view text, uint64_t last_step, bool evaluates) {
  Lines lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const bool is_whole = end != text.npos;
    const absl::string_view line = text.substr(0, end);
    text.remove_prefix(is_whole ? end + 1 : text.size());
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    const auto json = ParseJson(line, "line");
    const bool is_object = json.ok() && json->is_object() && json->contains("step");
    if (!is_object || !(*json)["step"].is_number_unsigned()) {
      // A run that is killed may leave half a line at the end.
      if (is_whole) absl::StrAppend(&lines.damaged, line, "\n");
      continue;
    }
    const uint64_t step = (*json)["step"];
    const bool of_evaluation = json->contains("val_loss") || json->contains("eval_task");
    if (step > last_step || (evaluates && step == last_step && of_evaluation)) continue;
    absl::StrAppend(&lines.kept, line, "\n");
    lines.last_step = std::max(lines.last_step, step);
  }
  return lines;
}

absl::StatusOr<std::string> ReadIfThere(const std::string& path) {
  // An error for a symbolic link to nothing.
  STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(path));
  if (kind == PathKind::kNothing) return "";
  return ReadFile(path, kMaxMetricsLogBytes);
}

}  // namespace

absl::Status MetricsLog::CheckIsFree(const std::string& path) {
  STRAKE_ASSIGN_OR_RETURN(const std::string text, ReadIfThere(path));
  if (text.empty()) return absl::OkStatus();
  return NotOfThisRun(path);
}

absl::StatusOr<MetricsLog> MetricsLog::Open(const std::string& path, const TrainStart& start) {
  if (!start.held_run) STRAKE_RETURN_IF_ERROR(CheckIsFree(path));
  STRAKE_ASSIGN_OR_RETURN(const std::string text, ReadIfThere(path));
  const Lines lines = Sort(text, start.step, start.evaluates);
  std::vector<std::string> notes;
  const std::string aside = path + ".damaged";
  if (!lines.damaged.empty()) {
    STRAKE_RETURN_IF_ERROR(KeepDamaged(aside, lines.damaged, kMaxMetricsLogBytes));
    notes.push_back(absl::StrCat(path, " had damaged lines, which are in ", aside, " now"));
  }
  if (start.held_run && lines.last_step < static_cast<uint64_t>(start.step)) {
    notes.push_back(absl::StrCat(path, " ends at step ", lines.last_step,
                                 ", before the checkpoint of step ", start.step));
  }
  STRAKE_RETURN_IF_ERROR(WriteFileDurably(path, lines.kept));
  STRAKE_ASSIGN_OR_RETURN(AppendedFile file, AppendedFile::Open(path, kMaxMetricsLogBytes));
  return MetricsLog(std::move(file), std::move(notes));
}

MetricsLog::MetricsLog(AppendedFile file, std::vector<std::string> notes)
    : file_(std::move(file)), notes_(std::move(notes)) {}

absl::Status MetricsLog::LogStep(const StepMetrics& m) {
  return file_.Append(absl::StrCat(
      "{\"step\":", m.step, ",\"loss\":", JsonNumber(m.loss), ",\"lr\":", JsonNumber(m.lr),
      ",\"grad_norm\":", JsonNumber(m.grad_norm), ",\"tokens\":", m.tokens,
      TargetsText(m.targets, m.tokens), ",\"seconds\":", JsonNumber(m.seconds),
      ",\"tokens_per_second\":", JsonNumber(m.tokens_per_second), ",\"time\":", JsonNumber(m.time),
      ",\"epoch\":", JsonNumber(m.epoch), MfuText(m.mfu), SourcesText(m.sources), "}\n"));
}

absl::Status MetricsLog::LogEval(const EvalMetrics& m) {
  std::string line = absl::StrCat("{\"step\":", m.step);
  if (!m.name.empty()) absl::StrAppend(&line, ",\"val_data\":", JsonText(nlohmann::json(m.name)));
  absl::StrAppend(&line, ",\"val_loss\":", JsonNumber(m.val_loss));
  if (m.bits_per_byte > 0) {
    absl::StrAppend(&line, ",\"val_bits_per_byte\":", JsonNumber(m.bits_per_byte));
  }
  return file_.Append(line + "}\n");
}

absl::Status MetricsLog::LogTask(const TaskMetrics& m) {
  return file_.Append(
      absl::StrCat("{\"step\":", m.step, ",\"eval_task\":", JsonText(nlohmann::json(m.name)),
                   ",\"acc\":", JsonNumber(m.acc), ",\"acc_norm\":", JsonNumber(m.acc_norm),
                   ",\"examples\":", m.num_examples, "}\n"));
}

}  // namespace strake
