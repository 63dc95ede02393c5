#include "tools/cli/peak_flops.h"

#include <algorithm>

#include "core/base/dtype.h"
#include "core/base/thread_team.h"
#include "core/cuda/cuda_runtime.h"
#include "core/device/fma_peak.h"
#include "train/plan/gpu_limits.h"

namespace strake {
namespace {

constexpr double kMeasureSeconds = 0.02;

double GpuFlops(const MachineConfig& machine, const LayoutConfig& layout) {
  if (machine.dtype_kind() != DType::kBf16) return 0;
  const auto gpu = DescribeCudaDevice(CudaDeviceOf(layout));
  if (!gpu.ok()) return 0;
  // Ranks that are threads share one GPU.
  const int num_gpus = layout.comm == "nccl" ? layout.num_ranks() : 1;
  return NominalBf16Flops(gpu->name).value_or(0) * num_gpus;
}

}  // namespace

double PeakFlops(const MachineConfig& machine, const LayoutConfig& layout) {
  if (machine.device_kind() == Device::kCuda) return GpuFlops(machine, layout);
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

}  // namespace strake
