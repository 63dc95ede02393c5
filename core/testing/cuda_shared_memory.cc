#include "core/testing/cuda_shared_memory.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/testing/cuda_emulator.h"

namespace strake::testing {
namespace {

constexpr size_t kCellBytes = 2;  // the smallest element, bf16

// Returns whether a barrier, or the program order of one thread, orders `earlier`, which ran first
// here, before `now` on a GPU, too. Every access by another block is in the past.
bool Ordered(const CudaTime& earlier, const CudaTime& now) {
  if (earlier.block != now.block || earlier.thread == now.thread) return true;
  if (earlier.barriers < now.barriers) return true;
  return earlier.thread / 32 == now.thread / 32 && earlier.warp_syncs < now.warp_syncs;
}

[[noreturn]] void Race(absl::string_view access, const std::string& where,
                       absl::string_view earlier_access, const CudaTime& earlier) {
  CudaFault(absl::StrCat(access, " ", where, ", which thread number ", earlier.thread, " ",
                         earlier_access, " with no barrier between"));
}

}  // namespace

std::string ToString(CudaPlace place) { return absl::StrCat(place.file, ":", place.line); }

CudaSharedMemory::CudaSharedMemory(size_t bytes, CudaPlace place) : place_(place) { Resize(bytes); }

void CudaSharedMemory::Resize(size_t bytes) {
  num_bytes_ = bytes;
  bytes_.resize(std::max(bytes_.size(), bytes));
  cells_.resize((bytes_.size() + kCellBytes - 1) / kCellBytes);
}

void CudaSharedMemory::Read(ptrdiff_t offset, size_t bytes, void* to) {
  CudaPreempt();
  CheckBounds("reads", offset, bytes);
  const CudaTime now = CudaNow();
  for (size_t at = offset; at < offset + bytes; at += kCellBytes) {
    CheckRead(at, cells_[at / kCellBytes], now);
  }
  std::memcpy(to, bytes_.data() + offset, bytes);
}

void CudaSharedMemory::Write(ptrdiff_t offset, size_t bytes, const void* from) {
  CudaPreempt();
  CheckBounds("writes", offset, bytes);
  const CudaTime now = CudaNow();
  for (size_t at = offset; at < offset + bytes; at += kCellBytes) {
    CheckWrite(at, cells_[at / kCellBytes], now);
  }
  std::memcpy(bytes_.data() + offset, from, bytes);
}

void CudaSharedMemory::CheckBounds(const char* access, ptrdiff_t offset, size_t bytes) {
  if (offset < 0 || offset + bytes > num_bytes_) {
    CudaFault(absl::StrCat(access, " ", bytes, " bytes out of bounds at ", Where(offset)));
  }
  if (offset % bytes != 0) {
    CudaFault(absl::StrCat(access, " ", bytes, " bytes misaligned at ", Where(offset)));
  }
  if (place_.file != nullptr && block_ != CudaNow().block) {
    block_ = CudaNow().block;
    CudaUseStaticShared(num_bytes_, place_);
  }
}

void CudaSharedMemory::CheckRead(size_t offset, Cell& cell, const CudaTime& now) {
  if (cell.write.block != now.block) {
    CudaFault(absl::StrCat("reads ", Where(offset), ", which no thread of the block wrote"));
  }
  if (!Ordered(cell.write, now)) Race("reads", Where(offset), "wrote", cell.write);
  // Two readers are enough: a writer differs from at least one of them.
  if (Ordered(cell.first_read, now)) {
    cell.first_read = now;
  } else {
    cell.last_read = now;
  }
}

void CudaSharedMemory::CheckWrite(size_t offset, Cell& cell, const CudaTime& now) {
  if (!Ordered(cell.write, now)) Race("writes", Where(offset), "wrote", cell.write);
  if (!Ordered(cell.first_read, now)) Race("writes", Where(offset), "read", cell.first_read);
  if (!Ordered(cell.last_read, now)) Race("writes", Where(offset), "read", cell.last_read);
  cell.write = now;
}

std::string CudaSharedMemory::Where(ptrdiff_t offset) const {
  const std::string bytes = absl::StrCat("byte ", offset, " of the ", num_bytes_, " bytes of ");
  return place_.file == nullptr
             ? bytes + "dynamic shared memory"
             : absl::StrCat(bytes, "shared memory declared at ", ToString(place_));
}

}  // namespace strake::testing
