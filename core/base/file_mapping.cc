#include "core/base/file_mapping.h"

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cerrno>

#include "absl/status/status.h"

namespace strake {

struct FileMapping::Region {
  const char* begin;
  size_t num_bytes;
  std::string path;
};

namespace {

struct Slot {
  std::atomic<const char*> begin{nullptr};
  std::atomic<size_t> num_bytes{0};
  std::atomic<const char*> path{nullptr};
};

// What PathOfMapping() searches, without a lock. Further mappings have no name.
std::array<Slot, 1024> slots;

void Enter(const char* begin, size_t num_bytes, const char* path) {
  for (Slot& slot : slots) {
    const char* free = nullptr;
    if (!slot.begin.compare_exchange_strong(free, begin)) continue;
    slot.num_bytes = num_bytes;
    slot.path = path;
    return;
  }
}

void Remove(const char* begin) {
  for (Slot& slot : slots) {
    if (slot.begin != begin) continue;
    slot.path = nullptr;
    slot.num_bytes = 0;
    slot.begin = nullptr;
    return;
  }
}

}  // namespace

absl::StatusOr<FileMapping> FileMapping::Map(const std::string& path, const FileDescriptor& file,
                                             size_t num_bytes) {
  void* data = mmap(nullptr, num_bytes, PROT_READ, MAP_SHARED, file.get(), 0);
  if (data == MAP_FAILED) return absl::ErrnoToStatus(errno, "mmap");
  FileMapping mapping;
  mapping.region_.reset(new Region{static_cast<const char*>(data), num_bytes, path});
  const Region& region = *mapping.region_;
  Enter(region.begin, region.num_bytes, region.path.c_str());
  return mapping;
}

absl::string_view FileMapping::bytes() const {
  return region_ == nullptr ? absl::string_view()
                            : absl::string_view(region_->begin, region_->num_bytes);
}

void FileMapping::Unmap::operator()(const Region* region) const {
  Remove(region->begin);
  munmap(const_cast<char*>(region->begin), region->num_bytes);
  delete region;
}

const char* PathOfMapping(const void* address) {
  const char* const byte = static_cast<const char*>(address);
  for (const Slot& slot : slots) {
    const char* const begin = slot.begin;
    if (begin != nullptr && begin <= byte && byte < begin + slot.num_bytes) return slot.path;
  }
  return nullptr;
}

}  // namespace strake
