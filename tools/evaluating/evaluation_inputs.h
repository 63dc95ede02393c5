// EvaluationInputs: the texts and questions of an evaluation, as ids.
#ifndef STRAKE_TOOLS_EVALUATING_EVALUATION_INPUTS_H_
#define STRAKE_TOOLS_EVALUATING_EVALUATION_INPUTS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "core/base/work_state.h"
#include "tools/cli/checkpoint_flags.h"
#include "tools/evaluating/evaluate_config.h"
#include "train/evaluation/choice_task.h"
#include "train/evaluation/evaluation_text.h"
#include "train/evaluation/sequence_scorer.h"

namespace strake {

struct EvaluationInputs {
  std::vector<EvaluationText> texts = {};
  std::vector<ChoiceTask> tasks = {};

  // The largest passes, for planning; their longest sequence is the longest of all.
  std::vector<PassShape> LargestPasses(const EvaluateConfig& config) const;
};

// Reads and tokenizes all files of a resolved config, with the checkpoint's tokenizer or that of
// the flags. Errors name flag and file.
absl::StatusOr<EvaluationInputs> OpenEvaluationInputs(const EvaluateConfig& config,
                                                      const GivenCheckpoint& checkpoint,
                                                      const OnWork& on_work = nullptr);

}  // namespace strake

#endif  // STRAKE_TOOLS_EVALUATING_EVALUATION_INPUTS_H_
