#include "tools/evaluating/evaluation_report.h"

#include <cmath>
#include <numeric>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/format_quantity.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using Json = nlohmann::ordered_json;

TextLoss Sum(const std::vector<TextLoss>& losses) {
  return std::accumulate(losses.begin(), losses.end(), TextLoss(),
                         [](TextLoss sum, const TextLoss& loss) { return sum += loss; });
}

// All questions as one task.
ChoiceScores AllScores(const EvaluationReport& report) {
  ChoiceTask all;
  std::vector<std::vector<double>> log_likelihoods;
  for (size_t i = 0; i < report.scores.size(); ++i) {
    const std::vector<ChoiceExample>& examples = (*report.tasks)[i].examples;
    all.examples.insert(all.examples.end(), examples.begin(), examples.end());
    const auto& mine = report.scores[i].log_likelihoods;
    log_likelihoods.insert(log_likelihoods.end(), mine.begin(), mine.end());
  }
  return ScoresOf(all, std::move(log_likelihoods));
}

std::string LossText(const TextLoss& loss) {
  const std::optional<double> bits = loss.bits_per_byte();
  return absl::StrCat(absl::StrFormat("loss %.6f, perplexity %.4f", loss.loss(), loss.perplexity()),
                      bits.has_value() ? absl::StrFormat(", %.5f bits per byte", *bits) : "", ", ",
                      loss.tokens, " ", Plural(loss.tokens, "token"));
}

std::string ScoresText(const ChoiceScores& scores) {
  const size_t count = scores.log_likelihoods.size();
  return absl::StrFormat("acc %.4f (+- %.4f), acc_norm %.4f (+- %.4f), %d %s", scores.acc,
                         scores.acc_stderr, scores.acc_norm, scores.acc_norm_stderr, count,
                         Plural(static_cast<int64_t>(count), "question"));
}

template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value.has_value() ? Json(*value) : Json();
}

void AddLoss(const TextLoss& loss, Json* json) {
  (*json)["loss"] = loss.loss();
  (*json)["perplexity"] = loss.perplexity();
  (*json)["bits_per_byte"] = OrNull(loss.bits_per_byte());
  (*json)["tokens"] = loss.tokens;
  (*json)["bytes"] = OrNull(loss.bytes);
}

void AddScores(const ChoiceScores& scores, Json* json) {
  (*json)["acc"] = scores.acc;
  (*json)["acc_stderr"] = scores.acc_stderr;
  (*json)["acc_norm"] = scores.acc_norm;
  (*json)["acc_norm_stderr"] = scores.acc_norm_stderr;
  (*json)["questions"] = scores.log_likelihoods.size();
}

Json ItemsJson(const ChoiceTask& task, const ChoiceScores& scores) {
  Json items = Json::array();
  for (size_t i = 0; i < task.examples.size(); ++i) {
    items.push_back({{"log_likelihoods", scores.log_likelihoods[i]},
                     {"chosen", scores.chosen[i]},
                     {"chosen_norm", scores.chosen_norm[i]},
                     {"answer", task.examples[i].answer}});
  }
  return items;
}

Json TaskJson(const ChoiceTask& task, const ChoiceScores& scores, bool items) {
  Json json = {{"file", task.name}};
  AddScores(scores, &json);
  json["truncated"] = task.num_truncated;
  if (items) json["items"] = ItemsJson(task, scores);
  return json;
}

}  // namespace

std::string ReportText(const EvaluationReport& report) {
  std::string text;
  for (size_t i = 0; i < report.files.size(); ++i) {
    absl::StrAppend(&text, report.files[i], ": ", LossText(report.losses[i]), "\n");
  }
  if (report.files.size() > 1) {
    absl::StrAppend(&text, "all files: ", LossText(Sum(report.losses)), "\n");
  }
  for (size_t i = 0; i < report.scores.size(); ++i) {
    const ChoiceTask& task = (*report.tasks)[i];
    absl::StrAppend(&text, task.name, ": ", ScoresText(report.scores[i]));
    if (task.num_truncated > 0) {
      absl::StrAppend(&text, "; of ", task.num_truncated,
                      " choices the context was cut at its beginning");
    }
    absl::StrAppend(&text, "\n");
  }
  if (report.scores.size() > 1) {
    absl::StrAppend(&text, "all questions: ", ScoresText(AllScores(report)), "\n");
  }
  return text;
}

Json ReportJson(const EvaluationReport& report, const EvaluateConfig& config) {
  Json json = {
      {"checkpoint", report.checkpoint}, {"seq_len", config.seq_len}, {"stride", config.stride}};
  if (!report.files.empty()) {
    AddLoss(Sum(report.losses), &json);
    Json& files = json["files"] = Json::array();
    for (size_t i = 0; i < report.files.size(); ++i) {
      AddLoss(report.losses[i], &files.emplace_back(Json{{"file", report.files[i]}}));
    }
  }
  if (!report.scores.empty()) {
    AddScores(AllScores(report), &json);
    Json& tasks = json["tasks"] = Json::array();
    for (size_t i = 0; i < report.scores.size(); ++i) {
      tasks.push_back(TaskJson((*report.tasks)[i], report.scores[i], config.items));
    }
  }
  return json;
}

}  // namespace strake
