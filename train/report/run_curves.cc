#include "train/report/run_curves.h"

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/json.h"
#include "core/base/lines_from_end.h"
#include "core/base/status_macros.h"
#include "train/run/metrics_log.h"

namespace strake {
namespace {

constexpr int64_t kMaxStep = int64_t{1} << 53;  // what a page can count to

// NaN where the log has null or nothing.
double NumberOf(const nlohmann::json& object, const std::string& key) {
  const auto it = object.find(key);
  const bool is_number = it != object.end() && it->is_number();
  return is_number ? it->get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::string TextOf(const nlohmann::json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

std::optional<int64_t> StepOf(const nlohmann::json& line) {
  if (!line.is_object()) return std::nullopt;
  const auto it = line.find("step");
  if (it == line.end() || !it->is_number_unsigned() || it->get<uint64_t>() > kMaxStep) {
    return std::nullopt;
  }
  return it->get<int64_t>();
}

}  // namespace

void RunCurves::Add(Names* names, absl::string_view name, int64_t step, double value) {
  auto curve = names->find(name);
  if (curve == names->end()) curve = names->try_emplace(std::string(name)).first;
  curve->second.Add(step, value);
  last_step_ = std::max(last_step_, step);
}

void RunCurves::AddStep(const StepMetrics& m) {
  StepLine line = {.step = m.step,
                   .numbers = {m.loss, m.lr, m.grad_norm, static_cast<double>(m.tokens), m.seconds,
                               m.tokens_per_second, m.time, m.epoch,
                               m.mfu > 0 ? std::optional(m.mfu) : std::nullopt}};
  for (const SourceMetrics& source : m.sources) line.sources.emplace_back(source.name, source.loss);
  AddStepLine(line);
}

void RunCurves::AddEval(const EvalMetrics& m) {
  if (m.name.empty()) {
    Add(&others_["loss"], "validation", m.step, m.val_loss);
  } else {
    Add(&others_["validation"], m.name, m.step, m.val_loss);
  }
  if (m.bits_per_byte > 0) Add(&others_["bits_per_byte"], m.name, m.step, m.bits_per_byte);
}

void RunCurves::AddTask(const TaskMetrics& m) {
  Add(&others_["tasks"], m.name, m.step, m.acc);
  Add(&others_["tasks"], m.name + ", normalized", m.step, m.acc_norm);
}

bool RunCurves::AddLine(const nlohmann::json& line) {
  const std::optional<int64_t> step = StepOf(line);
  if (!step.has_value()) return false;
  if (line.contains("val_loss")) {
    AddEval({.step = *step,
             .name = TextOf(line, "val_data"),
             .val_loss = NumberOf(line, "val_loss"),
             .bits_per_byte = NumberOf(line, "val_bits_per_byte")});
  } else if (line.contains("eval_task")) {
    AddTask({.step = *step,
             .name = TextOf(line, "eval_task"),
             .acc = NumberOf(line, "acc"),
             .acc_norm = NumberOf(line, "acc_norm")});
  } else {
    return AddStepLine(*step, line);
  }
  return true;
}

bool RunCurves::AddStepLine(int64_t step, const nlohmann::json& line) {
  if (!line.contains("loss")) return false;
  StepLine read = {.step = step};
  for (size_t i = 0; i < StepLine::kKeys.size(); ++i) {
    const std::string key(StepLine::kKeys[i]);
    if (line.contains(key)) read.numbers[i] = NumberOf(line, key);
  }
  const auto sources = line.find("sources");
  if (sources != line.end() && sources->is_object()) {
    for (const auto& [name, source] : sources->items()) {
      if (source.is_object()) read.sources.emplace_back(name, NumberOf(source, "loss"));
    }
  }
  AddStepLine(read);
  return true;
}

void RunCurves::AddStepLine(const StepLine& line) {
  for (size_t i = 0; i < line.numbers.size(); ++i) {
    if (!line.numbers[i].has_value()) continue;
    const double value = *line.numbers[i];
    if (i == StepLine::kEpoch) {
      if (value > epoch_.value_or(-1)) epoch_ = value;
    } else if (i == StepLine::kTime) {
      if (value > time_.value_or(0)) time_ = value;
    } else {
      of_steps_[i].Add(line.step, value);
      last_step_ = std::max(last_step_, line.step);
    }
  }
  for (const auto& [name, loss] : line.sources) Add(&sources_, name, line.step, loss);
}

std::map<std::pair<absl::string_view, absl::string_view>, const Curve*> RunCurves::ByName() const {
  std::map<std::pair<absl::string_view, absl::string_view>, const Curve*> curves;
  for (size_t i = 0; i < of_steps_.size(); ++i) {
    if (of_steps_[i].empty()) continue;
    curves[{StepLine::kKeys[i], i == StepLine::kLoss ? "training" : ""}] = &of_steps_[i];
  }
  for (const auto& [name, curve] : sources_) curves[{"sources", name}] = &curve;
  for (const auto& [chart, names] : others_) {
    for (const auto& [name, curve] : names) curves[{chart, name}] = &curve;
  }
  return curves;
}

std::string RunCurves::Json(int max_parts) const {
  std::string json = "[";
  for (const auto& [name, curve] : ByName()) {
    absl::StrAppend(&json, json.size() > 1 ? "," : "",
                    "{\"chart\":", JsonText(nlohmann::json(std::string(name.first))),
                    ",\"name\":", JsonText(nlohmann::json(std::string(name.second))), ",",
                    curve->JsonMembers(max_parts), "}");
  }
  return json + "]";
}

absl::StatusOr<LoggedCurves> ReadRunCurves(const std::string& path) {
  // The last lines, which count, come first.
  STRAKE_ASSIGN_OR_RETURN(LinesFromEnd lines, LinesFromEnd::Open(path, kMaxMetricsLogBytes));
  LoggedCurves logged;
  int64_t next_step = std::numeric_limits<int64_t>::max();
  StepLine of_step;
  absl::string_view line_text;
  while (lines.Next(&line_text)) {
    if (absl::StripAsciiWhitespace(line_text).empty()) continue;
    if (ReadStepLine(line_text, kMaxStep, &of_step)) {
      if (of_step.step >= next_step) {
        ++logged.num_replaced;
      } else {
        logged.curves.AddStepLine(of_step);
        next_step = of_step.step;
      }
      continue;
    }
    const auto line = ParseJsonLine(line_text, path);
    const std::optional<int64_t> step = line.ok() ? StepOf(*line) : std::nullopt;
    if (step.has_value() && *step >= next_step) {
      ++logged.num_replaced;
    } else if (!step.has_value() || !logged.curves.AddLine(*line)) {
      ++logged.num_damaged;
    } else if (line->contains("loss")) {
      next_step = *step;
    }
  }
  STRAKE_RETURN_IF_ERROR(lines.status());
  return logged;
}

}  // namespace strake
