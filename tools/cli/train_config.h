// TrainConfig: every option of //tools:train, from defaults, a JSON file and flags.
#ifndef STRAKE_TOOLS_CLI_TRAIN_CONFIG_H_
#define STRAKE_TOOLS_CLI_TRAIN_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/model_config.h"
#include "nlohmann/json_fwd.hpp"
#include "tools/cli/layout.h"
#include "tools/cli/machine.h"
#include "train/run/trainer_options.h"

namespace strake {

// Members are called as their flags and JSON keys, which for those of `run` are in
// AddTrainOptions(), as is what all of them mean.
struct TrainConfig {
  std::string model = "llama-tiny";
  std::string train_data;
  std::string val_data;
  std::string schedule = "cosine";
  std::string resume = "auto";
  int64_t log_every = 50;
  MachineConfig machine;
  LayoutConfig layout;
  // What the other flags say; ParseTrainCommand() also sets what follows from the above, but for
  // files (TrainerOptionsOf()).
  TrainerOptions run = {.schedule = {.lr = 0, .warmup_steps = 100, .total_steps = 2500}};
};

// What the flags asked for.
struct TrainCommand {
  TrainConfig config;
  ModelConfig model;
  std::vector<std::string> notices;  // about the model, for the user
  bool show_help = false;            // print `help` and stop
  bool print_config = false;         // print the configuration and stop
  std::string help;
};

// Defaults, then the file of --config, then the other flags, and the model that they name; then
// values that depend on others: out ("": runs/MODEL), global_batch (0: that of the run to go on
// with, or micro_batch * dp), threads (0: all cores, divided over the ranks), and where neither
// flag nor file says so, seq_len (256, or the model's positions if they are fewer) and lr (0.5 /
// hidden size: narrow models learn at higher rates). Other paths stay as given. An error, naming
// flag, key or file and the value, for what cannot be run.
absl::StatusOr<TrainCommand> ParseTrainCommand(int argc, const char* const* argv);

// The configuration as --config reads it.
nlohmann::ordered_json ToJson(const TrainConfig& config);

// The run as the trainer is given it, with the files that --train_data and --val_data name, or the
// default text. An error, naming the flag, where there are none.
absl::StatusOr<TrainerOptions> TrainerOptionsOf(const TrainConfig& config);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_TRAIN_CONFIG_H_
