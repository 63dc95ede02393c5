// core/cuda/cuda_runtime.h for the emulated GPU: devices, memory and streams.
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/cuda/cuda_messages.h"
#include "core/cuda/cuda_runtime.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/emulated_gpu_streams.h"

namespace strake {
namespace {

using testing::EmulatedError;
using testing::EmulatedGpu;
using testing::EmulatedRun;
using testing::ThisEmulatedThread;

constexpr int kBuiltArchitecture = 90;

absl::Status CheckDevice(int device) {
  STRAKE_ASSIGN_OR_RETURN(const int num_devices, CudaDeviceCount());
  if (device >= 0 && device < num_devices) return absl::OkStatus();
  return NoSuchCudaDevice(device, num_devices);
}

size_t FreeBytes(EmulatedGpu& gpu, int device) {
  const size_t used = gpu.memory().used_bytes(device), all = gpu.options().memory_bytes;
  return used < all ? all - used : 0;
}

absl::Status LaunchOnEmulatedGpu(CudaStream stream, const testing::CudaLaunch& launch,
                                 EmulatedRun run) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  if (stream != nullptr && stream->device != ThisEmulatedThread().device) {
    return EmulatedError("cudaLaunchKernelExC", "cudaErrorInvalidResourceHandle",
                         "the stream is not of the current device");
  }
  if (gpu.options().on_launch) gpu.options().on_launch(launch);
  return gpu.Put(stream, std::move(run));
}

[[maybe_unused]] const bool launches = [] {
  testing::SetCudaLauncher(LaunchOnEmulatedGpu);
  return true;
}();

}  // namespace

absl::StatusOr<int> CudaDeviceCount() {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  STRAKE_RETURN_IF_ERROR(gpu.CheckUsable());
  return gpu.options().num_devices;
}

absl::StatusOr<CudaDevice> DescribeCudaDevice(int device) {
  STRAKE_RETURN_IF_ERROR(CheckDevice(device));
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  return CudaDevice{.name = "emulated GPU",
                    .major = gpu.options().architecture / 10,
                    .minor = gpu.options().architecture % 10,
                    .num_multiprocessors = 4,
                    .free_bytes = FreeBytes(gpu, device),
                    .total_bytes = gpu.options().memory_bytes};
}

absl::Status SetCudaDevice(int device) {
  STRAKE_ASSIGN_OR_RETURN(const CudaDevice described, DescribeCudaDevice(device));
  if (described.major * 10 + described.minor != kBuiltArchitecture) {
    return CudaArchitectureNotBuilt(device, described.name, described.major, described.minor,
                                    absl::StrCat("sm_", kBuiltArchitecture));
  }
  ThisEmulatedThread().device = device;
  return absl::OkStatus();
}

absl::StatusOr<CudaMemory> CudaMemory::Allocate(size_t num_bytes) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  STRAKE_RETURN_IF_ERROR(gpu.CheckUsable());
  STRAKE_RETURN_IF_ERROR(gpu.CheckNotCapturing("cudaMalloc(&data, num_bytes)"));
  const int device = ThisEmulatedThread().device;
  const size_t free_bytes = FreeBytes(gpu, device);
  if (num_bytes > free_bytes) {
    return NotEnoughCudaMemory(device, num_bytes, free_bytes, gpu.options().memory_bytes);
  }
  CudaMemory memory;
  const bool backed = !gpu.options().on_launch;
  memory.data_.reset(gpu.memory().AllocateOnDevice(device, num_bytes, backed));
  memory.num_bytes_ = num_bytes;
  return memory;
}

absl::StatusOr<PinnedMemory> PinnedMemory::Allocate(size_t num_bytes) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  STRAKE_RETURN_IF_ERROR(gpu.CheckUsable());
  STRAKE_RETURN_IF_ERROR(gpu.CheckNotCapturing("cudaHostAlloc(&data, num_bytes, flags)"));
  PinnedMemory memory;
  memory.data_.reset(gpu.memory().AllocatePinned(num_bytes));
  memory.num_bytes_ = num_bytes;
  return memory;
}

namespace {

// Waits, as CUDA does, for all work that may use the memory: of its GPU, or of the thread's.
void Release(const char* call, void* data) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  EmulatedGpu::Lock lock = gpu.Acquire();
  const int device = gpu.memory().DeviceOf(data, 1).value_or(ThisEmulatedThread().device);
  if (gpu.CheckNotCapturing(call).ok()) (void)gpu.RunDevice(lock, device);
  gpu.memory().Free(data);
}

}  // namespace

void CudaMemory::Free::operator()(void* data) const { Release("cudaFree(data)", data); }
void PinnedMemory::Free::operator()(void* data) const { Release("cudaFreeHost(data)", data); }

absl::Status SynchronizeCudaStream(CudaStream stream) {
  constexpr char kCall[] = "cudaStreamSynchronize(stream)";
  EmulatedGpu& gpu = EmulatedGpu::Get();
  EmulatedGpu::Lock lock = gpu.Acquire();
  STRAKE_RETURN_IF_ERROR(gpu.CheckUsable());
  STRAKE_RETURN_IF_ERROR(gpu.CheckNotCapturing(kCall));
  CUstream_st& waited = gpu.Stream(stream, ThisEmulatedThread().device);
  STRAKE_RETURN_IF_ERROR(gpu.CheckNotCaptured(kCall, waited));
  return gpu.RunStream(lock, waited);
}

absl::Status SynchronizeCudaDevice() {
  constexpr char kCall[] = "cudaDeviceSynchronize()";
  EmulatedGpu& gpu = EmulatedGpu::Get();
  EmulatedGpu::Lock lock = gpu.Acquire();
  STRAKE_RETURN_IF_ERROR(gpu.CheckUsable());
  STRAKE_RETURN_IF_ERROR(gpu.CheckNotCapturing(kCall));
  const int device = ThisEmulatedThread().device;
  for (CUstream_st* const stream : gpu.Streams(device)) {
    STRAKE_RETURN_IF_ERROR(gpu.CheckNotCaptured(kCall, *stream));
  }
  return gpu.RunDevice(lock, device);
}

absl::Status LastCudaError() {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  return gpu.CheckUsable();
}

absl::StatusOr<CudaOwnStream> CudaOwnStream::Create(CudaStreamPriority priority) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  STRAKE_RETURN_IF_ERROR(gpu.CheckUsable());
  CudaOwnStream owner;
  owner.stream_.reset(gpu.NewStream(ThisEmulatedThread().device, priority));
  return owner;
}

void CudaOwnStream::Destroy::operator()(CudaStream stream) const {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  gpu.DestroyStream(stream);
}

}  // namespace strake

namespace strake::testing {

ScopedEmulatedGpu::ScopedEmulatedGpu(const EmulatedGpuOptions& options) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  gpu.set_options(options);
}

ScopedEmulatedGpu::~ScopedEmulatedGpu() {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  EmulatedGpu::Lock lock = gpu.Acquire();
  (void)gpu.RunDevice(lock, kAllDevices);
  gpu.ForgetError();
  gpu.set_options(EmulatedGpuOptionsOfEnvironment());
}

absl::Status EnqueueOnEmulatedGpu(CudaStream stream, std::string name,
                                  std::function<absl::Status()> work) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  return gpu.Put(stream, [name = std::move(name), work = std::move(work)] {
    const absl::Status status = work();
    if (status.ok() || absl::IsUnavailable(status)) return status;
    return absl::Status(status.code(), absl::StrCat(name, ": ", status.message()));
  });
}

int CurrentEmulatedDevice() { return ThisEmulatedThread().device; }

EmulatedStream DescribeEmulatedStream(CudaStream stream) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  const CUstream_st& described = gpu.Stream(stream, ThisEmulatedThread().device);
  return {.device = described.device,
          .priority = described.priority,
          .capture = described.capture == nullptr ? 0 : described.capture->number,
          .num_calls = described.num_calls};
}

std::optional<int> EmulatedDeviceOf(const void* data, size_t num_bytes) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  return gpu.memory().DeviceOf(data, num_bytes);
}

}  // namespace strake::testing
