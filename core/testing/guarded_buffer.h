// Memory between two inaccessible pages, for code that takes raw pointers. On a GPU whose driver
// cannot reach such pages, red zones take the place of the inaccessible pages.
#ifndef STRAKE_CORE_TESTING_GUARDED_BUFFER_H_
#define STRAKE_CORE_TESTING_GUARDED_BUFFER_H_

#include <cstddef>
#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake::testing {

// The end of the data that touches its guard page. Between the other end and its guard page is a
// red zone of less than a page, which the destructor checks.
//   kEnd:   aligned to the element only, unless the size is a multiple of more or the memory's
//           alignment asks for more
//   kStart: aligned to 4096 bytes
enum class GuardAt { kEnd, kStart };

class GuardedMemory {
 public:
  // `alignment` is a power of two, at most 4096. With kEnd, up to `alignment` - 1 bytes may lie
  // between the data and its guard page. Memory that is not `backed` has addresses and no bytes:
  // any size can be had, and access is never allowed.
  GuardedMemory(absl::string_view name, size_t bytes, GuardAt guard_at, size_t alignment = 1,
                bool backed = true);
  // Fails the test if the red zone changed.
  ~GuardedMemory();
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  unsigned char* data() const { return data_; }
  // Returns "byte 8 of `x` (100 bytes)", "4 bytes past the end of `x` (100 bytes)", or "" if the
  // address is outside this memory and its guard pages.
  std::string Describe(const void* address) const;
  // Sets whether the data, too, may be read and written. Access must be allowed at destruction.
  void SetAccess(bool allowed) const;

 private:
  void MapPages();
  void TakeSharedMemory(const absl::Status& refusal);
  void CheckRedZones() const;

  std::string name_;
  size_t bytes_;
  size_t mapping_bytes_;  // with the guard pages
  bool backed_;
  unsigned char* mapping_ = nullptr;
  void* shared_ = nullptr;       // holds the mapping, where pages are refused
  unsigned char *begin_, *end_;  // of all that is written: data and red zones
  unsigned char* data_;
};

// Returns Describe() of the live GuardedMemory that holds the address, else "address 0x1234, in no
// buffer".
std::string DescribeAddress(const void* address);

// How a GPU reaches each memory that is created from now on; null: it does not.
struct GuardedMemoryHooks {
  // Called with the pages, guard pages left out, and again before they are unmapped.
  absl::Status (*mapped)(void* data, size_t num_bytes) = nullptr;
  void (*unmapping)(void* data) = nullptr;
  // Memory that host and GPU reach, for pages that `mapped` refuses.
  absl::StatusOr<void*> (*allocate)(size_t num_bytes) = nullptr;
  void (*free)(void* data) = nullptr;
};
void SetGuardedMemoryHooks(GuardedMemoryHooks hooks);

// `count` elements, all bytes 0xff (NaN in f32 and bf16) until they are written.
template <typename T>
class GuardedBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  GuardedBuffer(absl::string_view name, size_t count, GuardAt guard_at = GuardAt::kEnd)
      : memory_(name, count * sizeof(T), guard_at), count_(count) {}

  T* data() const { return reinterpret_cast<T*>(memory_.data()); }
  size_t size() const { return count_; }
  T* begin() const { return data(); }
  T* end() const { return data() + count_; }
  T& operator[](size_t i) const { return data()[i]; }

 private:
  GuardedMemory memory_;
  size_t count_;
};

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_GUARDED_BUFFER_H_
