// What //tools:benchmark says about what it has measured.
#ifndef STRAKE_TOOLS_BENCHMARKING_BENCHMARK_REPORT_H_
#define STRAKE_TOOLS_BENCHMARKING_BENCHMARK_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/op_profile.h"
#include "models/model_config.h"
#include "nlohmann/json_fwd.hpp"
#include "parallel/comm/collective_timing.h"
#include "tools/benchmarking/benchmark_config.h"
#include "train/plan/gpu_limits.h"

namespace strake {

// What the first rank measures of all.
struct BenchmarkMeasurement {
  std::vector<double> step_seconds, one_rank_seconds;
  // Of the first rank, in steps of their own on a GPU, since a graph shows no ops.
  OpProfile::Entries ops;
  int64_t num_profiled_steps = 0;
  double profiled_seconds = 0;      // of those steps, sum
  CollectiveSeconds communication;  // on a GPU, of those steps
  // Of all ranks' threads, per second; the better of before and after the steps. On a CPU.
  double fma_peak_flops = 0;
  double bf16_peak_flops = 0;  // with bf16 weights
  double memory_bytes_per_second = 0;
  double planned_bytes = 0;       // on all ranks
  double peak_rss_bytes = 0;      // of this process
  double observed_gpu_bytes = 0;  // by which free memory of all GPUs fell
  std::string gpu_name;
  std::string attention_note;  // Engine::attention_note()
  GpuLimits gpu;
};

nlohmann::ordered_json BenchmarkReport(const BenchmarkConfig& config, const ModelConfig& model,
                                       const BenchmarkMeasurement& measurement);

// For people, on stdout.
void PrintBenchmarkReport(const nlohmann::ordered_json& report);

}  // namespace strake

#endif  // STRAKE_TOOLS_BENCHMARKING_BENCHMARK_REPORT_H_
