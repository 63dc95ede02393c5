#include "core/memory/device_memory.h"

#include <cstring>
#include <utility>

#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {

absl::StatusOr<DeviceMemory> DeviceMemory::Allocate(Device device, size_t num_bytes) {
  DeviceMemory memory;
  memory.num_bytes_ = num_bytes;
  if (device == Device::kCpu) {
    STRAKE_ASSIGN_OR_RETURN(memory.host_, HostMemory::Allocate(num_bytes));
    return memory;
  }
  STRAKE_ASSIGN_OR_RETURN(memory.cuda_, CudaMemory::Allocate(num_bytes));
  STRAKE_RETURN_IF_ERROR(SetBytesOnDevice(memory.data(), 0, num_bytes, /*stream=*/nullptr));
  STRAKE_RETURN_IF_ERROR(SynchronizeCudaDevice());
  return memory;
}

absl::StatusOr<DeviceBuffer> DeviceBuffer::Create(Device device, DType dtype, const Shape& shape) {
  DeviceBuffer buffer;
  STRAKE_ASSIGN_OR_RETURN(buffer.memory_,
                          DeviceMemory::Allocate(device, NumElements(shape) * DTypeSize(dtype)));
  buffer.tensor_ = Tensor(buffer.memory_.data(), dtype, shape, device);
  return buffer;
}

absl::Status CopyBlocking(const Tensor& from, Tensor to) {
  CHECK(from.dtype() == to.dtype() && from.num_elements() == to.num_elements())
      << "[copy] from " << from.ToString() << " to " << to.ToString();
  const bool from_gpu = from.device() == Device::kCuda, to_gpu = to.device() == Device::kCuda;
  const size_t num_bytes = from.num_bytes();
  if (num_bytes == 0) return absl::OkStatus();
  if (!from_gpu && !to_gpu) {
    std::memcpy(to.raw(), from.raw(), num_bytes);
    return absl::OkStatus();
  }
  // The default stream does not wait for the others.
  STRAKE_RETURN_IF_ERROR(SynchronizeCudaDevice());
  STRAKE_RETURN_IF_ERROR(!from_gpu ? CopyToDevice(to.raw(), from.raw(), num_bytes, nullptr)
                         : !to_gpu ? CopyToHost(to.raw(), from.raw(), num_bytes, nullptr)
                                   : CopyOnDevice(to.raw(), from.raw(), num_bytes, nullptr));
  return SynchronizeCudaStream(nullptr);
}

absl::StatusOr<HostCopy> HostCopy::Of(const Tensor& tensor) {
  HostCopy copy;
  copy.original_ = copy.host_ = tensor;
  if (tensor.device() == Device::kCpu) return copy;
  copy.buffer_ = TensorBuffer(tensor.dtype(), tensor.shape());
  copy.host_ = copy.buffer_.tensor();
  STRAKE_RETURN_IF_ERROR(CopyBlocking(tensor, copy.host_));
  return copy;
}

absl::Status HostCopy::WriteBack() const {
  if (original_.device() == Device::kCpu) return absl::OkStatus();
  return CopyBlocking(host_, original_);
}

}  // namespace strake
