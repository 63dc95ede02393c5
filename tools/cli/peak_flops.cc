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
  // Ranks that are threads may be more than the cores.
  const double num_threads = static_cast<double>(machine.threads) * layout.num_ranks();
  const double share = layout.comm == "threads" ? std::min(1.0, NumUsableCores() / num_threads) : 1;
  return flops * layout.num_ranks() * share;
}

}  // namespace strake
