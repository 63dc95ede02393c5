// ChoiceLines: multiple-choice questions as text, one JSON object a line.
//
//   {"context": "The sky is", "choices": ["blue.", "loud."], "answer": 0}
//
// `answer` is the number of the right choice, from 0, or the choice itself. Other members are
// ignored, and so are lines of blanks alone.
#ifndef STRAKE_TRAIN_EVALUATION_CHOICE_LINES_H_
#define STRAKE_TRAIN_EVALUATION_CHOICE_LINES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

struct ChoiceQuestion {
  std::string context = {};
  std::vector<std::string> choices = {};
  int64_t answer = 0;
  int64_t line = 0;  // from 1
};

// InvalidArgument, naming source, line and, for broken JSON, column, for a line that is no such
// object, an answer that is none of the choices, and a text without any questions.
absl::StatusOr<std::vector<ChoiceQuestion>> ParseChoiceLines(absl::string_view text,
                                                             absl::string_view source);

// Whether the first line that is not blank is an object with a member `choices`: a file of JSON
// lines may hold documents instead.
bool LooksLikeChoiceLines(absl::string_view beginning);

}  // namespace strake

#endif  // STRAKE_TRAIN_EVALUATION_CHOICE_LINES_H_
