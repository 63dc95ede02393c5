// ChoiceScores: a model's accuracy in multiple-choice questions.
//
//   l_c = ln p(choice c | context), the sum over the choice's tokens
//   acc        the share of questions whose answer is argmax_c l_c
//   acc_norm   the share whose answer is argmax_c l_c / length_c
//
// Of equal ones the first is the argmax. The lengths are characters for questions of text and
// tokens for llm.c's file. For text these are the numbers of lm-evaluation-harness for a task of
// output_type multiple_choice.
#ifndef STRAKE_TRAIN_EVALUATION_CHOICE_SCORES_H_
#define STRAKE_TRAIN_EVALUATION_CHOICE_SCORES_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "train/evaluation/choice_task.h"
#include "train/evaluation/sequence_scorer.h"

namespace strake {

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

#endif  // STRAKE_TRAIN_EVALUATION_CHOICE_SCORES_H_
