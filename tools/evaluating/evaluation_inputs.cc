#include "tools/evaluating/evaluation_inputs.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/name_error.h"
#include "core/base/path_kind.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"
#include "models/model_config.h"
#include "tools/cli/options.h"
#include "tools/cli/user_paths.h"
#include "train/evaluation/choice_task_file.h"
#include "train/evaluation/text_encoder.h"
#include "train/evaluation/tokenizer_encoder.h"

namespace strake {
namespace {

constexpr char kData[] = "--data", kTasks[] = "--eval_tasks";

// A file, and the flag that it came from.
struct InputFile {
  const char* flag;
  std::string path;
};

absl::StatusOr<bool> IsTask(const std::string& path) {
  if (path == "-") return false;
  // Reading from a pipe would take bytes away.
  STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(path));
  return kind == PathKind::kFile ? HoldsQuestions(path) : false;
}

// Divides the files of the flags into texts and tasks.
absl::Status FindFiles(const EvaluateConfig& config, std::vector<InputFile>* texts,
                       std::vector<InputFile>* tasks) {
  if (!config.data.empty()) {
    STRAKE_ASSIGN_OR_RETURN(const auto files, FilesOfFlag(kData, config.data));
    for (const std::string& file : files) {
      STRAKE_ASSIGN_OR_RETURN(const bool is_task, NameError(kData, IsTask(file)));
      (is_task ? tasks : texts)->push_back({kData, file});
    }
  }
  if (config.eval_tasks.empty()) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(const auto files, FilesOfFlag(kTasks, config.eval_tasks));
  for (const std::string& file : files) tasks->push_back({kTasks, file});
  return absl::OkStatus();
}

// The error with its flag, and the flag that helps where there is no tokenizer.
absl::Status NameInput(const InputFile& file, const absl::Status& error) {
  const absl::Status named = NameError(file.flag, error);
  if (!absl::IsFailedPrecondition(named)) return named;
  return absl::FailedPreconditionError(absl::StrCat(named.message(), "; give it by --tokenizer"));
}

}  // namespace

std::vector<PassShape> EvaluationInputs::LargestPasses(const EvaluateConfig& config) const {
  PassShape text, question;  // their batches: all sequences that there are
  for (const EvaluationText& each : texts) {
    const int64_t stride = config.stride > 0 ? config.stride : config.seq_len;
    text.seq_len = std::max(text.seq_len, std::min(config.seq_len, each.num_ids() - 1));
    text.batch = std::max(text.batch, (each.num_ids() - 2) / stride + 1);
  }
  for (const ChoiceTask& task : tasks) {
    question.seq_len = std::max(question.seq_len, LongestInputs(task));
    question.batch = std::max(question.batch, NumOptions(task));
  }
  std::vector<PassShape> passes;
  for (const PassShape& all : {text, question}) {
    if (all.batch == 0) continue;
    const int64_t fitting = std::max<int64_t>(1, config.pass_tokens() / all.seq_len);
    passes.push_back({std::min(all.batch, fitting), all.seq_len});
  }
  return passes;
}

absl::StatusOr<EvaluationInputs> OpenEvaluationInputs(const EvaluateConfig& config,
                                                      const GivenCheckpoint& checkpoint,
                                                      const OnWork& on_work) {
  std::vector<InputFile> texts, tasks;
  STRAKE_RETURN_IF_ERROR(FindFiles(config, &texts, &tasks));
  STRAKE_ASSIGN_OR_RETURN(
      const auto tokenizer,
      OpenTokenizerFlag(config.tokenizer, config.tokenizer_pattern, checkpoint));
  std::optional<TextEncoder> encoder;
  if (tokenizer != nullptr) encoder = EncoderOf(*tokenizer, config.special_tokens);
  const TextEncoder* const encoding = encoder.has_value() ? &*encoder : nullptr;
  const ModelConfig& model = checkpoint.model;
  EvaluationInputs inputs;
  const auto tell = [&](const InputFile& file) {
    if (on_work != nullptr) on_work({.what = "reading " + Printable(file.path)});
  };
  for (const InputFile& file : texts) {
    tell(file);
    auto text =
        EvaluationText::Open(file.path, encoding, model.vocab_size, {.field = config.text_field});
    if (!text.ok()) return NameInput(file, text.status());
    inputs.texts.push_back(*std::move(text));
  }
  for (const InputFile& file : tasks) {
    tell(file);
    auto task = OpenChoiceTask(file.path, encoding, model.vocab_size,
                               {.delimiter = config.delimiter, .max_inputs = model.max_positions});
    if (!task.ok()) return NameInput(file, task.status());
    inputs.tasks.push_back(*std::move(task));
  }
  return inputs;
}

}  // namespace strake
