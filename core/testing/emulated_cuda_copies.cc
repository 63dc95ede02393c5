// core/cuda/cuda_runtime.h for the emulated GPU: copies.
#include <cstring>
#include <string>
#include <utility>

#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "core/testing/emulated_gpu_streams.h"

namespace strake {
namespace {

using testing::EmulatedError;
using testing::EmulatedGpu;
using testing::EmulatedGpuMemory;
using testing::ThisEmulatedThread;

constexpr char kCopy[] = "cudaMemcpyAsync(to, from, num_bytes, kind, stream)";

absl::Status InvalidArgument(const char* call) {
  return EmulatedError(call, "cudaErrorInvalidValue", "invalid argument");
}

// The error of a copy whose memory no longer exists when it runs.
absl::Status Freed(const char* call) {
  return EmulatedError(call, "cudaErrorIllegalAddress",
                       "memory was freed before this ran on its stream");
}

// `host` is the end that is in host memory.
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
  if (to_host && gpu.options().on_launch) std::memset(to, 0, num_bytes);
  // The source is read now, because the caller may change it after this returns.
  std::string staged;
  if (!pinned && !to_host) staged.assign(static_cast<const char*>(from), num_bytes);
  STRAKE_RETURN_IF_ERROR(
      gpu.Put(stream, [=, &memory, staged = std::move(staged)]() -> absl::Status {
        if (!memory.IsOnDevice(device, num_bytes)) return Freed(kCopy);
        if (pinned && !memory.IsPinned(host, num_bytes)) return Freed(kCopy);
        std::memcpy(to, staged.empty() ? from : staged.data(), num_bytes);
        return absl::OkStatus();
      }));
  if (pinned || !to_host) return absl::OkStatus();
  return gpu.RunStream(lock, gpu.Stream(stream, ThisEmulatedThread().device));
}

}  // namespace

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
  return gpu.Put(stream, [=]() -> absl::Status {
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
  return gpu.Put(stream, [=]() -> absl::Status {
    if (!valid()) return Freed(kSet);
    std::memset(data, byte, num_bytes);
    return absl::OkStatus();
  });
}

}  // namespace strake
