// EvaluationReport: what //tools:evaluate prints.
#ifndef STRAKE_TOOLS_EVALUATING_EVALUATION_REPORT_H_
#define STRAKE_TOOLS_EVALUATING_EVALUATION_REPORT_H_

#include <string>
#include <vector>

#include "nlohmann/json_fwd.hpp"
#include "tools/evaluating/evaluate_config.h"
#include "train/evaluation/choice_scores.h"
#include "train/evaluation/choice_task.h"
#include "train/evaluation/text_loss.h"

namespace strake {

struct EvaluationReport {
  std::string checkpoint = {};          // its folder
  std::vector<std::string> files = {};  // of texts
  std::vector<TextLoss> losses = {};    // by file
  const std::vector<ChoiceTask>* tasks = nullptr;
  std::vector<ChoiceScores> scores = {};  // by task
};

// One line per file and task, and one for all of them where there are several.
std::string ReportText(const EvaluationReport& report);

//   {"checkpoint", "seq_len", "stride",
//    "loss", "perplexity", "bits_per_byte", "tokens", "bytes",                      over all files
//    "files": [{"file", "loss", "perplexity", "bits_per_byte", "tokens", "bytes"}, ...],
//    "acc", "acc_stderr", "acc_norm", "acc_norm_stderr", "questions",               over all tasks
//    "tasks": [{"file", "acc", "acc_stderr", "acc_norm", "acc_norm_stderr", "questions",
//               "truncated", "items": [{"log_likelihoods", "chosen", "chosen_norm", "answer"}]}]}
//
// bits_per_byte and bytes are null where the bytes are not known; "items" with config.items alone.
nlohmann::ordered_json ReportJson(const EvaluationReport& report, const EvaluateConfig& config);

}  // namespace strake

#endif  // STRAKE_TOOLS_EVALUATING_EVALUATION_REPORT_H_
