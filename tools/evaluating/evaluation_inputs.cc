#include "tools/evaluating/evaluation_inputs.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/path_kind.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "data/tokenizer/tokenizer.h"
#include "tools/cli/user_paths.h"
#include "train/evaluation/choice_task_file.h"
#include "train/evaluation/text_encoder.h"
#include "train/evaluation/tokenizer_encoder.h"

namespace strake {
namespace {

// How text becomes ids, if there is a way.
struct TextReader {
  std::unique_ptr<const Tokenizer> tokenizer;
  std::optional<TextEncoder> encoder;

  const TextEncoder* get() const { return encoder.has_value() ? &*encoder : nullptr; }
};

absl::StatusOr<TextReader> FindTextReader(const EvaluateConfig& config, const ModelConfig& model,
                                          const std::string& directory) {
  TextReader reader;
  const std::string path = config.tokenizer.empty() ? directory : config.tokenizer;
  if (config.tokenizer.empty() && !HoldsTokenizer(directory)) {
    if (model.vocab_size == kByteVocabSize) reader.encoder = ByteEncoder();
    return reader;
  }
  STRAKE_ASSIGN_OR_RETURN(reader.tokenizer,
                          OpenTokenizer(path, {.pattern = config.tokenizer_pattern}));
  if (reader.tokenizer->vocab_size() > model.vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": the tokenizer has ", reader.tokenizer->vocab_size(),
                     " tokens, more than the model's vocabulary of ", model.vocab_size,
                     "; give the model's own with --tokenizer"));
  }
  reader.encoder = EncoderOf(*reader.tokenizer, config.special_tokens);
  return reader;
}

absl::StatusOr<bool> IsTask(const std::string& path) {
  if (path == "-") return false;
  // Reading from a pipe would take bytes away.
  STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(path));
  return kind == PathKind::kFile ? HoldsQuestions(path) : false;
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
                                                      const ModelConfig& model,
                                                      const std::string& directory) {
  std::vector<std::string> texts, tasks;
  if (!config.data.empty()) {
    STRAKE_ASSIGN_OR_RETURN(const auto files, FilesOfFlag("--data", config.data));
    for (const std::string& file : files) {
      STRAKE_ASSIGN_OR_RETURN(const bool is_task, IsTask(file));
      (is_task ? tasks : texts).push_back(file);
    }
  }
  if (!config.eval_tasks.empty()) {
    STRAKE_ASSIGN_OR_RETURN(const auto files, FilesOfFlag("--eval_tasks", config.eval_tasks));
    tasks.insert(tasks.end(), files.begin(), files.end());
  }
  STRAKE_ASSIGN_OR_RETURN(const TextReader reader, FindTextReader(config, model, directory));
  EvaluationInputs inputs;
  for (const std::string& file : texts) {
    STRAKE_ASSIGN_OR_RETURN(
        EvaluationText text,
        EvaluationText::Open(file, reader.get(), model.vocab_size, {.field = config.text_field}));
    inputs.texts.push_back(std::move(text));
  }
  for (const std::string& file : tasks) {
    STRAKE_ASSIGN_OR_RETURN(ChoiceTask task, OpenChoiceTask(file, reader.get(), model.vocab_size,
                                                            {.delimiter = config.delimiter,
                                                             .max_inputs = model.max_positions}));
    inputs.tasks.push_back(std::move(task));
  }
  return inputs;
}

}  // namespace strake
