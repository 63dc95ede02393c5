// Device and pinned memory of the emulated GPU, between guard pages.
#ifndef STRAKE_CORE_TESTING_EMULATED_GPU_MEMORY_H_
#define STRAKE_CORE_TESTING_EMULATED_GPU_MEMORY_H_

#include <cstddef>
#include <map>
#include <memory>
#include <optional>

#include "core/testing/guarded_buffer.h"

namespace strake::testing {

// Used by one thread at a time. All bytes are initially 0xff, NaN in f32 and bf16.
class EmulatedGpuMemory {
 public:
  // From now on an access by the host ends the program with a message, except within a ScopedOpen.
  // Memory that is not `backed` is addresses alone: nobody may access it.
  void* AllocateOnDevice(int device, size_t num_bytes, bool backed = true);
  void* AllocatePinned(size_t num_bytes);
  void Free(void* data);

  // Bytes of device memory.
  size_t used_bytes(int device) const;

  // Returns whether all of the bytes belong to one live allocation of the kind.
  bool IsOnDevice(const void* data, size_t num_bytes) const;
  std::optional<int> DeviceOf(const void* data, size_t num_bytes) const;
  bool IsPinned(const void* data, size_t num_bytes) const;

  // Allows the host to touch device memory, to do what a GPU would.
  class ScopedOpen {
   public:
    explicit ScopedOpen(const EmulatedGpuMemory& memory) : memory_(memory) {
      memory_.SetAccess(true);
    }
    ~ScopedOpen() { memory_.SetAccess(false); }
    ScopedOpen(const ScopedOpen&) = delete;
    ScopedOpen& operator=(const ScopedOpen&) = delete;

   private:
    const EmulatedGpuMemory& memory_;
  };

 private:
  struct Allocation {
    std::unique_ptr<GuardedMemory> memory;
    size_t num_bytes = 0;
    int device = 0;  // kPinned is host memory
  };
  static constexpr int kPinned = -1;

  void* Allocate(int device, size_t num_bytes, bool backed);
  const Allocation* Find(const void* data, size_t num_bytes) const;
  void SetAccess(bool allowed) const;

  std::map<const void*, Allocation> allocations_;  // by address
};

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_EMULATED_GPU_MEMORY_H_
