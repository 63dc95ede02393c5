// ChoiceTask: multiple-choice questions as ids, and a model's accuracy in them.
//
//   l_c = ln p(choice c | context), the sum over the choice's tokens
//   acc        the share of questions whose answer is argmax_c l_c
//   acc_norm   the share whose answer is argmax_c l_c / length_c
//
// Of equal ones the first is the argmax. The lengths are characters for questions of text and
// tokens for llm.c's file. For text these are the numbers of lm-evaluation-harness for a task of
// output_type multiple_choice.
#ifndef STRAKE_TRAIN_EVALUATION_CHOICE_TASK_H_
#define STRAKE_TRAIN_EVALUATION_CHOICE_TASK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "train/evaluation/choice_lines.h"
#include "train/evaluation/sequence_scorer.h"
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

struct ChoiceScores {
  std::vector<std::vector<double>> log_likelihoods = {};  // by example and option
  std::vector<int64_t> chosen = {}, chosen_norm = {};     // by example
  double acc = 0, acc_norm = 0;
  // Of the mean: the samples' standard deviation over the root of their number.
  double acc_stderr = 0, acc_norm_stderr = 0;
};

// SequenceScorer::SumLosses()'s errors. Equal options of an example get equal scores.
absl::StatusOr<ChoiceScores> ScoreChoices(SequenceScorer& scorer, const ChoiceTask& task);

// Scores from the log-likelihoods of all options.
ChoiceScores ScoresOf(const ChoiceTask& task, std::vector<std::vector<double>> log_likelihoods);

}  // namespace strake

#endif  // STRAKE_TRAIN_EVALUATION_CHOICE_TASK_H_
