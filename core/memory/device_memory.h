// Memory on either device, and blocking copies between them.
#ifndef STRAKE_CORE_MEMORY_DEVICE_MEMORY_H_
#define STRAKE_CORE_MEMORY_DEVICE_MEMORY_H_

#include <cstddef>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/cuda/cuda_runtime.h"
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_buffer.h"

namespace strake {

// Zeroed, and returned on destruction: host memory, or memory of the calling thread's GPU.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  // ResourceExhausted, naming the size, when the device has no such memory.
  static absl::StatusOr<DeviceMemory> Allocate(Device device, size_t num_bytes);

  void* data() const { return host_.data() != nullptr ? host_.data() : cuda_.data(); }
  size_t num_bytes() const { return num_bytes_; }

 private:
  HostMemory host_;
  CudaMemory cuda_;
  size_t num_bytes_ = 0;
};

// A zeroed tensor in memory of its own, on either device.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  static absl::StatusOr<DeviceBuffer> Create(Device device, DType dtype, const Shape& shape);

  const Tensor& tensor() const { return tensor_; }

 private:
  DeviceMemory memory_;
  Tensor tensor_;
};

// to = from, of equal dtype and number of elements, on any devices. Waits for all that was enqueued
// on the calling thread's GPU before, and for the copy: for loading, saving and reports, not for
// steps (core/ops/copy/copy.h).
absl::Status CopyBlocking(const Tensor& from, Tensor to);

// A tensor's contents where the host can read them: the tensor itself on the CPU, else a copy.
class HostCopy {
 public:
  static absl::StatusOr<HostCopy> Of(const Tensor& tensor);

  const Tensor& tensor() const { return host_; }
  operator const Tensor&() const { return host_; }  // NOLINT(google-explicit-constructor)
  // After changing tensor(): makes the original the same.
  absl::Status WriteBack() const;

 private:
  Tensor original_, host_;
  TensorBuffer buffer_;  // on a GPU
};

}  // namespace strake

#endif  // STRAKE_CORE_MEMORY_DEVICE_MEMORY_H_
