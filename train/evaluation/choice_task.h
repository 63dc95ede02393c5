// ChoiceTask: multiple-choice questions as ids.
#ifndef STRAKE_TRAIN_EVALUATION_CHOICE_TASK_H_
#define STRAKE_TRAIN_EVALUATION_CHOICE_TASK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "train/evaluation/choice_lines.h"
#include "train/evaluation/text_encoder.h"

namespace strake {

struct ChoiceOption {
  std::vector<int32_t> ids = {};  // context and choice
  int64_t first = 1;              // of the choice's ids
  double length = 0;              // what acc_norm divides by
};

struct ChoiceExample {
  std::vector<ChoiceOption> options = {};
  int64_t answer = 0;
};

struct ChoiceTask {
  std::string name = {};
  std::vector<ChoiceExample> examples = {};
  int64_t num_truncated = 0;  // options whose context lost its beginning, to fit the model
};

struct ChoiceTextOptions {
  std::string delimiter = " ";  // between context and choice
  int64_t max_inputs = 0;       // the model's length: longer contexts lose their beginning
};

// Turns questions into ids as lm-evaluation-harness does:
//
//  * White space at the end of the context moves to the beginning of the choice.
//  * Context and choice are tokenized together, and cut at the number of ids of the context alone.
//  * An empty context is the encoder's `start`.
//  * Of more than max_inputs + 1 ids the last ones are kept.
//
// InvalidArgument, naming source and line, for a choice of no ids or more than max_inputs, and an
// empty context without a `start`.
absl::StatusOr<ChoiceTask> TokenizeChoices(absl::Span<const ChoiceQuestion> questions,
                                           absl::string_view source, const TextEncoder& encoder,
                                           const ChoiceTextOptions& options);

}  // namespace strake

#endif  // STRAKE_TRAIN_EVALUATION_CHOICE_TASK_H_
