// core/cuda/cuda_runtime.h for the emulated GPU: devices, memory, copies and streams.
#include <cstring>
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
using testing::EmulatedGpuMemory;
using testing::EmulatedRun;
using testing::ThisEmulatedThread;

constexpr int kBuiltArchitecture = 90;
constexpr char kCopy[] = "cudaMemcpyAsync(to, from, num_bytes, kind, stream)";

absl::Status CheckDevice(int device) {
  STRAKE_ASSIGN_OR_RETURN(const int num_devices, CudaDeviceCount());
  if (device >= 0 && device < num_devices) return absl::OkStatus();
  return NoSuchCudaDevice(device, num_devices);
}

size_t FreeBytes(EmulatedGpu& gpu, int device) {
  const size_t used = gpu.memory().used_bytes(device), all = gpu.options().memory_bytes;
  return used < all ? all - used : 0;
}

absl::Status Enqueue(EmulatedGpu& gpu, CudaStream stream, EmulatedRun run) {
  STRAKE_RETURN_IF_ERROR(gpu.CheckUsable());
  CUstream_st& to = gpu.Stream(stream, ThisEmulatedThread().device);
  if (to.capture == nullptr) {
    gpu.Enqueue(to, {.wait = nullptr, .run = std::move(run), .point = nullptr});
    return absl::OkStatus();
  }
  STRAKE_RETURN_IF_ERROR(to.capture->error);
  to.capture->runs.push_back(std::move(run));
  ++to.capture->streams[&to][&to];
  return absl::OkStatus();
}

absl::Status InvalidArgument(const char* call) {
  return EmulatedError(call, "cudaErrorInvalidValue", "invalid argument");
}

// Of a copy whose memory is there no longer when it runs.
absl::Status Freed(const char* call) {
  return EmulatedError(call, "cudaErrorIllegalAddress",
                       "memory was freed before this ran on its stream");
}

absl::Status LaunchOnEmulatedGpu(CudaStream stream, EmulatedRun run) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  if (stream != nullptr && stream->device != ThisEmulatedThread().device) {
    return EmulatedError("cudaLaunchKernelExC", "cudaErrorInvalidResourceHandle",
                         "the stream is not of the current device");
  }
  return Enqueue(gpu, stream, std::move(run));
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
  memory.data_.reset(gpu.memory().AllocateOnDevice(device, num_bytes));
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

// Waits, as CUDA does, for all that may use the memory.
void Release(const char* call, void* data) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  EmulatedGpu::Lock lock = gpu.Acquire();
  if (gpu.CheckNotCapturing(call).ok()) (void)gpu.RunDevice(lock, testing::kAllDevices);
  gpu.memory().Free(data);
}

// `host`: the end that is host memory.
absl::Status CopyWithHost(void* to, const void* from, const void* host, size_t num_bytes,
                          CudaStream stream) {
  if (num_bytes == 0) return absl::OkStatus();
  EmulatedGpu& gpu = EmulatedGpu::Get();
  EmulatedGpu::Lock lock = gpu.Acquire();
  EmulatedGpuMemory& memory = gpu.memory();
  const bool to_host = host == to, pinned = memory.IsPinned(host, num_bytes);
  const void* const device = to_host ? from : to;
  if (!memory.IsOnDevice(device, num_bytes) || memory.IsOnDevice(host, 1)) {
    return InvalidArgument(kCopy);
  }
  if (!pinned) STRAKE_RETURN_IF_ERROR(gpu.CheckNotCapturing(kCopy));
  // Its source is read now: the caller may change it when this returns.
  std::string staged;
  if (!pinned && !to_host) staged.assign(static_cast<const char*>(from), num_bytes);
  STRAKE_RETURN_IF_ERROR(
      Enqueue(gpu, stream, [=, &memory, staged = std::move(staged)]() -> absl::Status {
        if (!memory.IsOnDevice(device, num_bytes)) return Freed(kCopy);
        if (pinned && !memory.IsPinned(host, num_bytes)) return Freed(kCopy);
        std::memcpy(to, staged.empty() ? from : staged.data(), num_bytes);
        return absl::OkStatus();
      }));
  if (pinned || !to_host) return absl::OkStatus();
  return gpu.RunStream(lock, gpu.Stream(stream, ThisEmulatedThread().device));
}

}  // namespace

void CudaMemory::Free::operator()(void* data) const { Release("cudaFree(data)", data); }
void PinnedMemory::Free::operator()(void* data) const { Release("cudaFreeHost(data)", data); }

absl::Status CopyToDevice(void* device_to, const void* host_from, size_t num_bytes,
                          CudaStream stream) {
  return CopyWithHost(device_to, host_from, host_from, num_bytes, stream);
}

absl::Status CopyToHost(void* host_to, const void* device_from, size_t num_bytes,
                        CudaStream stream) {
  return CopyWithHost(host_to, device_from, host_to, num_bytes, stream);
}

absl::Status CopyOnDevice(void* to, const void* from, size_t num_bytes, CudaStream stream) {
  return CopyRowsOnDevice(to, num_bytes, from, num_bytes, num_bytes, 1, stream);
}

absl::Status CopyRowsOnDevice(void* to, size_t to_stride_bytes, const void* from,
                              size_t from_stride_bytes, size_t row_bytes, size_t num_rows,
                              CudaStream stream) {
  if (row_bytes == 0 || num_rows == 0) return absl::OkStatus();
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  const auto valid = [=, &memory = gpu.memory()] {
    return to_stride_bytes >= row_bytes && from_stride_bytes >= row_bytes &&
           memory.IsOnDevice(to, to_stride_bytes * (num_rows - 1) + row_bytes) &&
           memory.IsOnDevice(from, from_stride_bytes * (num_rows - 1) + row_bytes);
  };
  if (!valid()) return InvalidArgument(kCopy);
  return Enqueue(gpu, stream, [=]() -> absl::Status {
    if (!valid()) return Freed(kCopy);
    for (size_t row = 0; row < num_rows; ++row) {
      std::memcpy(static_cast<char*>(to) + row * to_stride_bytes,
                  static_cast<const char*>(from) + row * from_stride_bytes, row_bytes);
    }
    return absl::OkStatus();
  });
}

absl::Status SetBytesOnDevice(void* data, int byte, size_t num_bytes, CudaStream stream) {
  if (num_bytes == 0) return absl::OkStatus();
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  constexpr char kSet[] = "cudaMemsetAsync(data, byte, num_bytes, stream)";
  const auto valid = [=, &memory = gpu.memory()] { return memory.IsOnDevice(data, num_bytes); };
  if (!valid()) return InvalidArgument(kSet);
  return Enqueue(gpu, stream, [=]() -> absl::Status {
    if (!valid()) return Freed(kSet);
    std::memset(data, byte, num_bytes);
    return absl::OkStatus();
  });
}

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

absl::StatusOr<CudaOwnStream> CudaOwnStream::Create() {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  STRAKE_RETURN_IF_ERROR(gpu.CheckUsable());
  CudaOwnStream owner;
  owner.stream_.reset(gpu.NewStream(ThisEmulatedThread().device));
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
  return Enqueue(gpu, stream, [name = std::move(name), work = std::move(work)] {
    const absl::Status status = work();
    if (status.ok() || absl::IsUnavailable(status)) return status;
    return absl::Status(status.code(), absl::StrCat(name, ": ", status.message()));
  });
}

}  // namespace strake::testing
