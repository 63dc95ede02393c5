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

// Zeroed host memory, or memory of the calling thread's GPU. Freed on destruction.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  // Returns ResourceExhausted, naming the size, if the device does not have that much memory.
  static absl::StatusOr<DeviceMemory> Allocate(Device device, size_t num_bytes);

  void* data() const { return host_.data() != nullptr ? host_.data() : cuda_.data(); }
  size_t num_bytes() const { return num_bytes_; }

 private:
  HostMemory host_;
  CudaMemory cuda_;
  size_t num_bytes_ = 0;
};

// A zeroed tensor that owns its memory, on either device.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  static absl::StatusOr<DeviceBuffer> Create(Device device, DType dtype, const Shape& shape);

  const Tensor& tensor() const { return tensor_; }

 private:
  DeviceMemory memory_;
  Tensor tensor_;
};

// to = from, on any devices; dtypes and numbers of elements are equal. Waits for all work enqueued
// before on the calling thread's GPU, and for the copy. For loading, saving and reports; steps use
// core/ops/copy/copy.h.
absl::Status CopyBlocking(const Tensor& from, Tensor to);

// A tensor's contents in host memory: the tensor itself if it is on the CPU, else a copy.
class HostCopy {
 public:
  static absl::StatusOr<HostCopy> Of(const Tensor& tensor);

  const Tensor& tensor() const { return host_; }
  operator const Tensor&() const { return host_; }  // NOLINT(google-explicit-constructor)
  // Copies changes of tensor() back to the original.
  absl::Status WriteBack() const;

 private:
  Tensor original_, host_;
  TensorBuffer buffer_;  // used for a tensor on a GPU
};

}  // namespace strake

#endif  // STRAKE_CORE_MEMORY_DEVICE_MEMORY_H_
