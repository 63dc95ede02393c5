#include "core/memory/activation_arena.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {

absl::StatusOr<ActivationArena> ActivationArena::Create(size_t capacity_bytes, Device device) {
  STRAKE_ASSIGN_OR_RETURN(DeviceMemory memory, DeviceMemory::Allocate(device, capacity_bytes));
  return ActivationArena(std::move(memory), device, false);
}

void ActivationArena::Clear() {
  CHECK_EQ(num_scopes_, 0) << "[activation_arena] Clear() within a scope";
  used_bytes_ = 0;
}

Tensor ActivationArena::Allocate(DType dtype, const Shape& shape) {
  if (scratch_ != nullptr && num_scopes_ > 0) return scratch_->Allocate(dtype, shape);
  const size_t num_bytes = NumElements(shape) * DTypeSize(dtype);
  const size_t begin = used_bytes_;
  used_bytes_ += (num_bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
  peak_bytes_ = std::max(peak_bytes_, used_bytes_);
  if (dry_run_) return Tensor(nullptr, dtype, shape, device_);
  CHECK_LE(used_bytes_, memory_.num_bytes())
      << "[activation_arena] " << DTypeName(dtype) << ShapeString(shape) << " after " << begin
      << " bytes";
  char* data = static_cast<char*>(memory_.data()) + begin;
  // All ones is a NaN in f32, bf16, f64 and c128.
  if (poison_) {
    CHECK(device_ == Device::kCpu) << "[activation_arena] set_poison() on a GPU";
    std::memset(data, 0xff, num_bytes);
  }
  return Tensor(data, dtype, shape, device_);
}

}  // namespace strake
