// TrainConfig: every option of //tools:train, from defaults, a JSON file and flags.
#ifndef STRAKE_TOOLS_CLI_TRAIN_CONFIG_H_
#define STRAKE_TOOLS_CLI_TRAIN_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/model_config.h"
#include "nlohmann/json.hpp"
#include "optim/lr_schedule.h"
#include "tools/cli/layout.h"
#include "tools/cli/machine.h"
#include "tools/cli/options.h"

namespace strake {

// Members are called as their flags and JSON keys; what they mean stands in AddTrainOptions().
struct TrainConfig {
  std::string model = "llama-tiny";
  std::string init_from;
  std::string train_data;
  std::string val_data;
  int64_t seq_len = 256;
  int64_t micro_batch = 8;
  int64_t global_batch = 0;
  int64_t steps = 2500;

  double lr = 0;
  double min_lr = 0;
  std::string schedule = "cosine";
  int64_t warmup_steps = 100;
  double weight_decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double clip_norm = 1;

  int64_t seed = 1;
  bool shuffle = true;
  MachineConfig machine;
  LayoutConfig layout;

  int64_t eval_every = 500;
  int64_t eval_batches = -1;
  int64_t sample_every = 500;
  int64_t save_every = 500;
  int64_t log_every = 50;
  int64_t keep_last = 3;
  std::string out;
  std::string resume = "auto";
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

LrSchedule ScheduleOf(const TrainConfig& config);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_TRAIN_CONFIG_H_
