// What //tools:benchmark is asked for.
#ifndef STRAKE_TOOLS_BENCHMARKING_BENCHMARK_CONFIG_H_
#define STRAKE_TOOLS_BENCHMARKING_BENCHMARK_CONFIG_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "models/model_config.h"
#include "tools/cli/layout.h"
#include "tools/cli/machine.h"
#include "tools/cli/options.h"

namespace strake {

// Members are called as their flags.
struct BenchmarkConfig {
  std::string model = "gpt2-124m";
  int64_t micro_batch = 4;
  int64_t global_batch = 0;
  int64_t seq_len = 64;
  int64_t steps = 10;
  MachineConfig machine;
  LayoutConfig layout;
  bool against_one_rank = false;
  bool json = false;

  int64_t num_tokens() const { return global_batch * seq_len; }  // of a step
  bool on_cuda() const { return machine.device_kind() == Device::kCuda; }
  // What the ranks share, or have each for themselves.
  int64_t num_gpus() const { return layout.comm == "nccl" ? layout.num_ranks() : 1; }
};

void AddBenchmarkOptions(BenchmarkConfig* config, OptionSet* options);

// Sets what the user left open. An error, naming flag and value, for what cannot be done.
absl::Status ResolveBenchmark(const ModelConfig& model, BenchmarkConfig* config);

}  // namespace strake

#endif  // STRAKE_TOOLS_BENCHMARKING_BENCHMARK_CONFIG_H_
