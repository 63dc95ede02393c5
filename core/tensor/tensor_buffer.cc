#include "core/tensor/tensor_buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace strake {

absl::StatusOr<HostMemory> HostMemory::Allocate(size_t num_bytes) {
  const size_t mapped = std::max<size_t>(num_bytes, 1);
  void* data = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot allocate ", num_bytes, " bytes of memory: ", std::strerror(errno)));
  }
  // This is only advice: everything works without huge pages.
  madvise(data, mapped, MADV_HUGEPAGE);
  HostMemory memory;
  memory.data_ = std::unique_ptr<void, Unmap>(data, Unmap{mapped});
  return memory;
}

void HostMemory::Unmap::operator()(void* data) const { munmap(data, num_bytes); }

TensorBuffer::TensorBuffer(DType dtype, Shape shape) {
  auto memory = HostMemory::Allocate(NumElements(shape) * DTypeSize(dtype));
  CHECK(memory.ok()) << memory.status();
  memory_ = std::move(memory).value();
  tensor_ = Tensor(memory_.data(), dtype, std::move(shape));
}

}  // namespace strake
