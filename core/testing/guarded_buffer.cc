#include "core/testing/guarded_buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <set>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gtest/gtest.h"

namespace strake::testing {
namespace {

constexpr size_t kPage = 4096;
constexpr unsigned char kRedZone = 0xa5;

struct Registry {
  std::mutex mutex;
  std::set<const GuardedMemory*> memories;
};

Registry& TheRegistry() {
  static auto* registry = new Registry;
  return *registry;
}

constinit GuardedMemoryHooks the_hooks;

// Fills whole pages with bytes 0xff. Pages of large memory are views of one file, which take no
// time or memory until they are written, and whose protection is quick to change.
void FillPages(unsigned char* pages, size_t num_bytes) {
  constexpr size_t kTile = size_t{4} << 20;
  if (num_bytes < kTile) {
    std::memset(pages, 0xff, num_bytes);
    return;
  }
  static const int tile = [] {
    const int file = memfd_create("poison", MFD_CLOEXEC);
    PCHECK(file >= 0 && ftruncate(file, kTile) == 0);
    void* const view = mmap(nullptr, kTile, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    PCHECK(view != MAP_FAILED);
    std::memset(view, 0xff, kTile);
    munmap(view, kTile);
    return file;
  }();
  for (size_t at = 0; at < num_bytes; at += kTile) {
    void* const view = mmap(pages + at, std::min(kTile, num_bytes - at), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_FIXED, tile, 0);
    PCHECK(view != MAP_FAILED) << num_bytes << " bytes";
  }
}

}  // namespace

void SetGuardedMemoryHooks(GuardedMemoryHooks hooks) { the_hooks = hooks; }

GuardedMemory::GuardedMemory(absl::string_view name, size_t bytes, GuardAt guard_at,
                             size_t alignment, bool backed)
    : name_(name),
      bytes_(bytes),
      mapping_bytes_((bytes + kPage - 1) / kPage * kPage + 2 * kPage),
      backed_(backed) {
  MapPages();
  if (backed && the_hooks.mapped != nullptr && end_ > begin_) {
    const absl::Status mapped = the_hooks.mapped(begin_, end_ - begin_);
    if (!mapped.ok()) TakeSharedMemory(mapped);
  }
  unsigned char* const end = mapping_ + mapping_bytes_ - kPage;
  data_ = guard_at == GuardAt::kEnd ? end - (bytes + alignment - 1) / alignment * alignment
                                    : mapping_ + kPage;
  if (backed) {
    std::memset(begin_, kRedZone, data_ - begin_);
    std::memset(data_ + bytes, kRedZone, end_ - (data_ + bytes));
  }
  const std::lock_guard lock(TheRegistry().mutex);
  TheRegistry().memories.insert(this);
}

void GuardedMemory::MapPages() {
  void* mapping = mmap(nullptr, mapping_bytes_, backed_ ? PROT_READ | PROT_WRITE : PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  PCHECK(mapping != MAP_FAILED) << "`" << name_ << "`, " << bytes_ << " bytes";
  mapping_ = static_cast<unsigned char*>(mapping);
  begin_ = mapping_ + kPage;
  end_ = mapping_ + mapping_bytes_ - kPage;
  PCHECK(mprotect(mapping_, kPage, PROT_NONE) == 0 && mprotect(end_, kPage, PROT_NONE) == 0);
  if (backed_) FillPages(begin_, end_ - begin_);
}

void GuardedMemory::TakeSharedMemory(const absl::Status& refusal) {
  LOG_FIRST_N(WARNING, 1) << "buffers have red zones and no guard pages, in memory that host and "
                             "GPU share, because their pages are refused: "
                          << refusal.message();
  munmap(mapping_, mapping_bytes_);
  const absl::StatusOr<void*> shared = the_hooks.allocate(mapping_bytes_ + kPage);
  CHECK(shared.ok()) << "`" << name_ << "`: " << shared.status() << "; before: " << refusal;
  shared_ = *shared;
  const uintptr_t address = reinterpret_cast<uintptr_t>(shared_);
  mapping_ = static_cast<unsigned char*>(shared_) + (kPage - address % kPage) % kPage;
  begin_ = mapping_;
  end_ = mapping_ + mapping_bytes_;
  std::memset(begin_, 0xff, end_ - begin_);
}

GuardedMemory::~GuardedMemory() {
  if (backed_) CheckRedZones();
  {
    const std::lock_guard lock(TheRegistry().mutex);
    TheRegistry().memories.erase(this);
  }
  if (shared_ != nullptr) {
    the_hooks.free(shared_);
    return;
  }
  if (backed_ && the_hooks.unmapping != nullptr && end_ > begin_) the_hooks.unmapping(begin_);
  munmap(mapping_, mapping_bytes_);
}

void GuardedMemory::CheckRedZones() const {
  const auto changed = [](unsigned char c) { return c != kRedZone; };
  unsigned char* at = std::find_if(begin_, data_, changed);
  if (at == data_) at = std::find_if(data_ + bytes_, end_, changed);
  if (at != end_) ADD_FAILURE() << "the red zone was written " << Describe(at);
}

void GuardedMemory::SetAccess(bool allowed) const {
  if (!backed_) return;
  CHECK(shared_ == nullptr) << "`" << name_ << "` is shared with a GPU";
  PCHECK(mprotect(begin_, end_ - begin_, allowed ? PROT_READ | PROT_WRITE : PROT_NONE) == 0)
      << "`" << name_ << "`, " << bytes_ << " bytes";
}

std::string GuardedMemory::Describe(const void* address) const {
  const auto* at = static_cast<const unsigned char*>(address);
  if (at < mapping_ || at >= mapping_ + mapping_bytes_) return "";
  const std::string buffer = absl::StrCat("`", name_, "` (", bytes_, " bytes)");
  if (at < data_) return absl::StrCat(data_ - at, " bytes before the start of ", buffer);
  if (at < data_ + bytes_) return absl::StrCat("byte ", at - data_, " of ", buffer);
  return absl::StrCat(at - data_ - bytes_, " bytes past the end of ", buffer);
}

std::string DescribeAddress(const void* address) {
  const std::lock_guard lock(TheRegistry().mutex);
  for (const GuardedMemory* memory : TheRegistry().memories) {
    std::string description = memory->Describe(address);
    if (!description.empty()) return description;
  }
  return absl::StrCat("address 0x", absl::Hex(reinterpret_cast<uintptr_t>(address)),
                      ", in no buffer");
}

}  // namespace strake::testing
