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

// Members are called as their flags and JSON keys; what they mean stands in AddCheckOptions().
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
};

struct CheckCommand {
  CheckConfig config;
  ModelConfig model;
  std::vector<std::string> notices;  // about the model, for the user
  bool show_help = false;            // print `help` and stop
  std::string help;

  // Of a rank of the layout.
  EngineOptions RankOptions() const;
  // Of the whole model on one rank, with all the layout's threads.
  EngineOptions WholeOptions() const;
  // The same on the CPU, in f64, with the reference ops, and nothing made twice.
  EngineOptions TruthOptions() const;
};

// Fills in what the user left open: global_batch, threads, and seq_len where the model has fewer
// positions. An error, naming flag and value, for what cannot be run.
absl::StatusOr<CheckCommand> ParseCheckCommand(int argc, const char* const* argv);

nlohmann::ordered_json ToJson(const CheckConfig& config);

}  // namespace strake

#endif  // STRAKE_TOOLS_CHECKING_CHECK_CONFIG_H_
