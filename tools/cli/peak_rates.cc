#include "tools/cli/peak_rates.h"

#include <algorithm>
#include <cstddef>
#include <optional>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "core/base/dtype.h"
#include "core/base/thread_team.h"
#include "core/cuda/cuda_runtime.h"
#include "core/device/fma_peak.h"
#include "core/device/memory_stream.h"
#include "train/plan/gpu_limits.h"

namespace strake {
namespace {

constexpr double kMeasureSeconds = 0.02;
constexpr size_t kStreamBytes = size_t{128} << 20;  // larger than caches
constexpr int kStreamPasses = 3;

// The rate of all GPUs, from that of one by its name.
double OfGpus(const LayoutConfig& layout,
              absl::FunctionRef<std::optional<double>(absl::string_view)> nominal) {
  const auto gpu = DescribeCudaDevice(CudaDeviceOf(layout));
  if (!gpu.ok()) return 0;
  // Ranks that are threads share one GPU.
  const int num_gpus = layout.comm == "nccl" ? layout.num_ranks() : 1;
  return nominal(gpu->name).value_or(0) * num_gpus;
}

}  // namespace

double PeakFlops(const MachineConfig& machine, const LayoutConfig& layout) {
  if (machine.device_kind() == Device::kCuda) {
    return machine.dtype_kind() == DType::kBf16 ? OfGpus(layout, NominalBf16Flops) : 0;
  }
  ThreadTeam team(static_cast<int>(machine.threads));
  const double flops = machine.dtype_kind() == DType::kBf16
                           ? MeasureBf16PeakFlops(team, kMeasureSeconds)
                           : MeasureFmaPeakFlops(team, kMeasureSeconds);
  return flops * RanksAtOnce(layout, machine.threads, NumUsableCores());
}

double RanksAtOnce(const LayoutConfig& layout, int64_t threads, int num_cores) {
  const double num_ranks = layout.num_ranks();
  if (layout.comm != "threads") return num_ranks;
  return std::min(num_ranks, static_cast<double>(num_cores) / static_cast<double>(threads));
}

double PeakMemoryRate(const MachineConfig& machine, const LayoutConfig& layout) {
  if (machine.device_kind() == Device::kCuda) return OfGpus(layout, NominalMemoryRate);
  const int num_here = NumRanksInMemory(machine, layout);
  const int num_threads = static_cast<int>(machine.threads) * num_here;
  ThreadTeam team(std::min(num_threads, NumUsableCores()));
  MemoryStream stream(&team, kStreamBytes);
  double best = 0;
  for (int pass = 0; pass < kStreamPasses; ++pass) best = std::max(best, stream.MeasurePass());
  return best * layout.num_ranks() / num_here;
}

}  // namespace strake
