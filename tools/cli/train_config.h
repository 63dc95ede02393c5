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
#include "train/run/run_record.h"
#include "train/run/trainer_options.h"

namespace strake {

// Members are named like their flags and JSON keys. AddTrainOptions() documents them, and has the
// names of those in `run`.
struct TrainConfig {
  std::string model = "llama-tiny";
  std::string train_data;
  std::string val_data;
  std::string eval_tasks;
  std::string data_fingerprint = "auto";
  std::string documents = "concat";
  std::string schedule = "cosine";
  std::string resume = "auto";
  int64_t lora_rank = 0;
  double lora_alpha = 0;
  std::string lora_targets;
  int64_t log_every = -1;
  bool exit_zero_on_stop = false;
  bool tensorboard = false;
  bool quiet = false;
  std::string trace_steps;
  MachineConfig machine;
  LayoutConfig layout;
  // The other flags' values. ParseTrainCommand() also sets what follows from the members above,
  // except files (TrainerOptionsOf()).
  TrainerOptions run = {.schedule = {.lr = 0, .warmup_steps = 100, .total_steps = 2500}};
};

// The parsed command line.
struct TrainCommand {
  TrainConfig config;
  ModelConfig model;
  std::string run_record;            // the run.json that gave the options without being named
  std::vector<std::string> notices;  // about the model, for the user
  bool show_help = false;            // print `help`, or a script for a shell, and stop
  bool print_config = false;         // print the configuration and stop
  std::string help;
};

// Applies defaults, then the file of --config, then the other flags, and the model that they name.
// Then sets values that depend on others: out ("": runs/MODEL, or runs/MODEL-2, ... as
// ChooseRunName() takes them), global_batch (0: that of the run to
// resume, or micro_batch * dp), threads (0: all cores, divided over the ranks), and, where neither
// flag nor file sets them, seq_len (256, or the model's positions if they are fewer), lr (0.5 /
// hidden size, since narrow models learn at higher rates; with init_from at most 5e-5, of adapters
// 2e-4) and warmup_steps (100; with init_from at most a tenth of the steps). Where init_from is an
// adapter, it becomes init_adapter, with the base, rank, alpha and modules that its
// adapter_config.json names. Other paths are not changed.
// Returns an error, naming flag, key or file and the value, for options that cannot be run.
absl::StatusOr<TrainCommand> ParseTrainCommand(int argc, const char* const* argv);

// The configuration in the format that --config reads.
nlohmann::ordered_json ToJson(const TrainConfig& config);

// The options for the trainer, with the files that --train_data and --val_data name, or the default
// text. Returns an error, naming the flag, where there are none.
absl::StatusOr<TrainerOptions> TrainerOptionsOf(const TrainCommand& command);

// The same of a run, as far as they say what data it reads. `record_path` is that of its run.json,
// which errors name.
absl::StatusOr<TrainerOptions> DataOptionsOf(const RunRecord& record,
                                             const std::string& record_path);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_TRAIN_CONFIG_H_
