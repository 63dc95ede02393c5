// The report of //tools:benchmark.
#ifndef STRAKE_TOOLS_BENCHMARKING_BENCHMARK_REPORT_H_
#define STRAKE_TOOLS_BENCHMARKING_BENCHMARK_REPORT_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/op_profile.h"
#include "models/model_config.h"
#include "nlohmann/json_fwd.hpp"
#include "parallel/comm/collective_timing.h"
#include "tools/benchmarking/benchmark_config.h"
#include "train/plan/gpu_limits.h"
#include "train/plan/step_times.h"

namespace strake {

// The first rank's measurements, which cover all ranks.
struct BenchmarkMeasurement {
  std::vector<double> step_seconds, one_rank_seconds;
  // Profile of the first rank; on a GPU in separate steps, since a graph shows no single ops.
  OpProfile::Entries ops;
  int64_t num_profiled_steps = 0;
  double profiled_seconds = 0;      // sum over those steps
  CollectiveSeconds communication;  // on a GPU, of those steps
  // Rates of all ranks' threads, per second: the better of two measurements, before and after the
  // steps.
  // On a CPU.
  double fma_peak_flops = 0;
  double bf16_peak_flops = 0;  // with bf16 weights
  double memory_bytes_per_second = 0;
  double planned_bytes = 0;       // on all ranks
  double peak_rss_bytes = 0;      // of this process
  double observed_gpu_bytes = 0;  // decrease of free memory, all GPUs together
  std::string gpu_name;
  std::string attention_note;  // Engine::attention_note()
  GpuLimits gpu;
  absl::StatusOr<StepTimes> forecast = absl::NotFoundError("there is none");
};

nlohmann::ordered_json BenchmarkReport(const BenchmarkConfig& config, const ModelConfig& model,
                                       const BenchmarkMeasurement& measurement);

// Prints the report in readable form. No line is wider than `columns`, unless they are 0: longer
// ones are broken, and the table of ops lacks what is beside it where that has no room.
void PrintBenchmarkReport(const nlohmann::ordered_json& report, int columns, std::ostream* out);

}  // namespace strake

#endif  // STRAKE_TOOLS_BENCHMARKING_BENCHMARK_REPORT_H_
