// OpenChoiceTask: the questions of a file, for a model. A file may be compressed by gzip or zstd.
#ifndef STRAKE_TRAIN_EVALUATION_CHOICE_TASK_FILE_H_
#define STRAKE_TRAIN_EVALUATION_CHOICE_TASK_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "train/evaluation/choice_task.h"
#include "train/evaluation/text_encoder.h"

namespace strake {

// Whether a file holds questions, by its beginning: llm.c's, or JSON lines with `choices`. An error
// names a file that cannot be read.
absl::StatusOr<bool> HoldsQuestions(const std::string& path);

// Reads JSON lines (train/evaluation/choice_lines.h) or llm.c's file (hellaswag_file.h): the
// content decides. `encoder` may be null, for llm.c's file alone. The task's name is the path.
// Errors name the file: those of the readers, and ids outside the vocabulary.
absl::StatusOr<ChoiceTask> OpenChoiceTask(const std::string& path, const TextEncoder* encoder,
                                          int64_t vocab_size, const ChoiceTextOptions& options);

// Options of all questions, and inputs of the longest of them.
int64_t NumOptions(const ChoiceTask& task);
int64_t LongestInputs(const ChoiceTask& task);

}  // namespace strake

#endif  // STRAKE_TRAIN_EVALUATION_CHOICE_TASK_FILE_H_
