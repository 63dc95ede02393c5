// StepConfig: the options of programs that analyze a training step without running it.
#ifndef STRAKE_TOOLS_CLI_STEP_CONFIG_H_
#define STRAKE_TOOLS_CLI_STEP_CONFIG_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "models/model_config.h"
#include "tools/cli/layout.h"
#include "tools/cli/options.h"
#include "train/engine/engine_options.h"

namespace strake {

// Members are named like their flags, with the trainer's defaults where it has the same flags.
struct StepConfig {
  std::string model = "llama-tiny";
  int64_t seq_len = 256;
  int64_t micro_batch = 8;
  int64_t global_batch = 0;
  std::string dtype = "fp32";
  std::string device = "cpu";
  std::string activation_recompute = "none";
  LayoutConfig layout;
  int64_t rank = 0;

  // Per step and data-parallel rank.
  int64_t num_micro_batches() const { return global_batch / micro_batch / layout.dp; }
  EngineOptions RankOptions(const ModelConfig& model_config) const;
};

// Adds all options except `rank`, which each program explains.
void AddStepOptions(StepConfig* config, OptionSet* options);

// Sets the options that the user left open: global_batch, and seq_len where the model has fewer
// positions. Returns an error, naming flag and value, for options that cannot be run.
absl::Status ResolveStep(const OptionSet& given, const ModelConfig& model, StepConfig* config);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_STEP_CONFIG_H_
