// CheckConfig: every option of //tools:check.
#ifndef STRAKE_TOOLS_CHECKING_CHECK_CONFIG_H_
#define STRAKE_TOOLS_CHECKING_CHECK_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/model_config.h"
#include "nlohmann/json_fwd.hpp"
#include "tools/cli/layout.h"
#include "tools/cli/machine.h"
#include "train/engine/engine_options.h"

namespace strake {

// Members are named like their flags and JSON keys; AddCheckOptions() documents them.
struct CheckConfig {
  std::string model = "llama-tiny";
  std::string init_from;
  std::string train_data;
  int64_t seq_len = 64;
  int64_t micro_batch = 2;
  int64_t global_batch = 0;
  int64_t seed = 1;
  MachineConfig machine;
  LayoutConfig layout;
  std::string report;
  bool brief = false;
  bool quiet = false;

  // Per step and data-parallel rank.
  int64_t num_micro_batches() const { return global_batch / micro_batch / layout.dp; }
};

struct CheckCommand {
  CheckConfig config;
  ModelConfig model;
  std::vector<std::string> notices;  // about the model, for the user
  bool show_help = false;            // print `help` and stop
  std::string help;

  // Options of a rank of the layout.
  EngineOptions RankOptions() const;
  // Options of the whole model on one rank, with the threads of the whole layout.
  EngineOptions WholeOptions() const;
  // The same on the CPU, in f64, with the reference ops, and without recomputation.
  EngineOptions TruthOptions() const;
};

// Sets the options that the user left open: global_batch, threads, and seq_len where the model has
// fewer positions. Returns an error, naming flag and value, for options that cannot be run.
absl::StatusOr<CheckCommand> ParseCheckCommand(int argc, const char* const* argv);

nlohmann::ordered_json ToJson(const CheckConfig& config);

}  // namespace strake

#endif  // STRAKE_TOOLS_CHECKING_CHECK_CONFIG_H_
