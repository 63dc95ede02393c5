#include "train/evaluation/choice_scores.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "absl/types/span.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

// numpy's: the first of the largest, where a NaN is larger than any number.
int64_t ArgMax(absl::Span<const double> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) return i;
  }
  return std::max_element(values.begin(), values.end()) - values.begin();
}

struct Mean {
  double mean, standard_error;
};

Mean MeanOf(int64_t num_right, int64_t count) {
  const double n = static_cast<double>(count), mean = static_cast<double>(num_right) / n;
  const double variance = count > 1 ? n / (n - 1) * mean * (1 - mean) : 0;
  return {mean, std::sqrt(variance / n)};
}

}  // namespace

ChoiceScores ScoresOf(const ChoiceTask& task, std::vector<std::vector<double>> log_likelihoods) {
  ChoiceScores scores = {.log_likelihoods = std::move(log_likelihoods)};
  int64_t right = 0, right_norm = 0;
  for (size_t e = 0; e < task.examples.size(); ++e) {
    const ChoiceExample& example = task.examples[e];
    std::vector<double> normalised = scores.log_likelihoods[e];
    for (size_t o = 0; o < normalised.size(); ++o) normalised[o] /= example.options[o].length;
    scores.chosen.push_back(ArgMax(scores.log_likelihoods[e]));
    scores.chosen_norm.push_back(ArgMax(normalised));
    right += scores.chosen.back() == example.answer;
    right_norm += scores.chosen_norm.back() == example.answer;
  }
  const int64_t count = task.examples.size();
  const Mean acc = MeanOf(right, count), acc_norm = MeanOf(right_norm, count);
  scores.acc = acc.mean;
  scores.acc_stderr = acc.standard_error;
  scores.acc_norm = acc_norm.mean;
  scores.acc_norm_stderr = acc_norm.standard_error;
  return scores;
}

absl::StatusOr<ChoiceScores> ScoreChoices(SequenceScorer& scorer, const ChoiceTask& task) {
  std::vector<ScoredSequence> sequences;
  std::vector<const ChoiceOption*> scored;
  std::vector<std::vector<size_t>> places;  // in `scored`, by example and option
  for (const ChoiceExample& example : task.examples) {
    std::map<std::pair<std::vector<int32_t>, int64_t>, size_t> known;
    std::vector<size_t>& mine = places.emplace_back();
    for (const ChoiceOption& option : example.options) {
      const auto [found, is_new] = known.try_emplace({option.ids, option.first}, scored.size());
      mine.push_back(found->second);
      if (!is_new) continue;
      scored.push_back(&option);
      sequences.push_back(
          {.num_ids = static_cast<int64_t>(option.ids.size()), .first = option.first});
    }
  }
  STRAKE_ASSIGN_OR_RETURN(const std::vector<double> losses,
                          scorer.SumLosses(sequences, [&](int64_t i, int32_t* ids) {
                            std::copy(scored[i]->ids.begin(), scored[i]->ids.end(), ids);
                            return absl::OkStatus();
                          }));
  std::vector<std::vector<double>> log_likelihoods;
  for (const std::vector<size_t>& mine : places) {
    std::vector<double>& example = log_likelihoods.emplace_back();
    for (const size_t place : mine) example.push_back(-losses[place]);
  }
  return ScoresOf(task, std::move(log_likelihoods));
}

}  // namespace strake
