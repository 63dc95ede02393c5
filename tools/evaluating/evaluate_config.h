// EvaluateConfig: the flags of //tools:evaluate.
#ifndef STRAKE_TOOLS_EVALUATING_EVALUATE_CONFIG_H_
#define STRAKE_TOOLS_EVALUATING_EVALUATE_CONFIG_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "models/model_config.h"
#include "tools/cli/layout.h"
#include "tools/cli/machine.h"
#include "tools/cli/options.h"

namespace strake {

// Members are named like their flags; AddEvaluateOptions() documents them.
struct EvaluateConfig {
  std::string checkpoint = "runs/llama-tiny";
  std::string base_model;
  std::string data;
  std::string eval_tasks;
  std::string tokenizer;
  std::string tokenizer_pattern;
  bool special_tokens = true;
  std::string text_field = "text";
  std::string delimiter = " ";
  int64_t seq_len = 0;
  int64_t stride = 0;
  int64_t micro_batch = 0;
  bool json = false;
  bool items = false;
  bool quiet = false;
  MachineConfig machine;
  LayoutConfig layout;

  int64_t pass_tokens() const { return micro_batch * seq_len; }
};

void AddEvaluateOptions(EvaluateConfig* config, OptionSet* options);

// Sets seq_len and micro_batch where the user left them open. InvalidArgument, naming the flag,
// where there is nothing to evaluate, and for sizes that the model or each other do not allow.
absl::Status ResolveEvaluateConfig(const ModelConfig& model, EvaluateConfig* config);

}  // namespace strake

#endif  // STRAKE_TOOLS_EVALUATING_EVALUATE_CONFIG_H_
