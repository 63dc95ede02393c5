#include "train/evaluation/choice_task_file.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "data/text/byte_source.h"
#include "train/evaluation/choice_lines.h"
#include "train/evaluation/hellaswag_file.h"

namespace strake {
namespace {

// More than any set of questions has.
constexpr size_t kMaxTaskBytes = size_t{1} << 30;

// Decompressed, the first `max_bytes`.
absl::StatusOr<std::string> ReadUpTo(const std::string& path, size_t max_bytes) {
  STRAKE_ASSIGN_OR_RETURN(const auto source, ByteSource::Open(path));
  std::string content;
  for (size_t read = 1; read > 0 && content.size() < max_bytes;) {
    const size_t begin = content.size();
    content.resize(std::min(max_bytes, begin + (1 << 20)));
    STRAKE_ASSIGN_OR_RETURN(read, source->Read(&content[begin], content.size() - begin));
    content.resize(begin + read);
  }
  return content;
}

absl::Status CheckIds(const ChoiceTask& task, int64_t vocab_size) {
  for (const ChoiceExample& example : task.examples) {
    for (const ChoiceOption& option : example.options) {
      for (const int32_t id : option.ids) {
        if (id < vocab_size) continue;
        return absl::InvalidArgumentError(
            absl::StrCat(task.name, ": a question becomes token ", id,
                         ", which is not below the model's vocabulary of ", vocab_size,
                         "; give the model's own tokenizer"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<bool> HoldsQuestions(const std::string& path) {
  STRAKE_ASSIGN_OR_RETURN(const std::string beginning, ReadUpTo(path, 1 << 16));
  return LooksLikeHellaSwagFile(beginning) || LooksLikeChoiceLines(beginning);
}

absl::StatusOr<ChoiceTask> OpenChoiceTask(const std::string& path, const TextEncoder* encoder,
                                          int64_t vocab_size, const ChoiceTextOptions& options) {
  STRAKE_ASSIGN_OR_RETURN(const std::string content, ReadUpTo(path, kMaxTaskBytes + 1));
  if (content.size() > kMaxTaskBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, ": holds more than ", kMaxTaskBytes, " bytes; divide it"));
  }
  if (LooksLikeHellaSwagFile(content)) {
    return ParseHellaSwagFile(content, path, vocab_size, options.max_inputs);
  }
  STRAKE_ASSIGN_OR_RETURN(const std::vector<ChoiceQuestion> questions,
                          ParseChoiceLines(content, path));
  if (encoder == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": holds text, and the model has a vocabulary of ", vocab_size,
                     " tokens but no tokenizer"));
  }
  STRAKE_ASSIGN_OR_RETURN(ChoiceTask task, TokenizeChoices(questions, path, *encoder, options));
  STRAKE_RETURN_IF_ERROR(CheckIds(task, vocab_size));
  return task;
}

int64_t NumOptions(const ChoiceTask& task) {
  int64_t count = 0;
  for (const ChoiceExample& example : task.examples) count += example.options.size();
  return count;
}

int64_t LongestInputs(const ChoiceTask& task) {
  int64_t longest = 0;
  for (const ChoiceExample& example : task.examples) {
    for (const ChoiceOption& option : example.options) {
      longest = std::max<int64_t>(longest, static_cast<int64_t>(option.ids.size()) - 1);
    }
  }
  return longest;
}

}  // namespace strake
