// The options of //tools:benchmark.
#ifndef STRAKE_TOOLS_BENCHMARKING_BENCHMARK_CONFIG_H_
#define STRAKE_TOOLS_BENCHMARKING_BENCHMARK_CONFIG_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "models/model_config.h"
#include "tools/cli/layout.h"
#include "tools/cli/machine.h"
#include "tools/cli/options.h"
#include "train/engine/engine_options.h"

namespace strake {

// Members are named like their flags.
struct BenchmarkConfig {
  std::string model = "gpt2-124m";
  int64_t micro_batch = 4;
  int64_t global_batch = 0;
  int64_t seq_len = 64;
  int64_t steps = 10;
  MachineConfig machine;
  LayoutConfig layout;
  std::string measure = "step";
  bool against_one_rank = false;
  bool json = false;
  bool quiet = false;
  std::string tune = "";

  int64_t num_tokens() const { return global_batch * seq_len; }  // per step
  // Per step and data-parallel rank.
  int64_t num_micro_batches() const { return global_batch / micro_batch / layout.dp; }
  EngineOptions RankOptions(const ModelConfig& model_config) const;
  bool on_cuda() const { return machine.device_kind() == Device::kCuda; }
  // The number of GPUs that the ranks use: one each, or one that they share.
  int64_t num_gpus() const { return layout.comm == "nccl" ? layout.num_ranks() : 1; }
};

void AddBenchmarkOptions(BenchmarkConfig* config, OptionSet* options);

// Sets the options that the user left open. Returns an error, naming flag and value, for options
// that cannot be run.
absl::Status ResolveBenchmark(const ModelConfig& model, BenchmarkConfig* config);

}  // namespace strake

#endif  // STRAKE_TOOLS_BENCHMARKING_BENCHMARK_CONFIG_H_
