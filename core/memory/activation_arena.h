// ActivationArena: planned memory for activations, gradients of activations, and scratch.
#ifndef STRAKE_CORE_MEMORY_ACTIVATION_ARENA_H_
#define STRAKE_CORE_MEMORY_ACTIVATION_ARENA_H_

#include <cstddef>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/memory/device_memory.h"
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_buffer.h"

namespace strake {

// A stack: Allocate() pushes, and the end of an ActivationScope pops everything pushed since its
// start. The dry run is the same code on an arena without memory: tensors have null data, ops
// return at once, and peak_bytes() afterwards is exactly what the real run needs.
class ActivationArena {
 public:
  // On the CPU a cache line, and the widest vector; on a GPU, more than its widest access.
  static constexpr size_t kAlignmentBytes = kTensorAlignment;

  // Creates an arena without memory.
  static ActivationArena DryRun(Device device = Device::kCpu) {
    return ActivationArena(DeviceMemory(), device, true);
  }
  // Returns ResourceExhausted if the device does not have that much memory.
  static absl::StatusOr<ActivationArena> Create(size_t capacity_bytes,
                                                Device device = Device::kCpu);

  ActivationArena(ActivationArena&&) = default;

  // Returns memory aligned to kAlignmentBytes and not cleared: it holds its previous contents, or
  // NaN under set_poison(true). CHECKs that it fits: a plan that was too small is a bug.
  Tensor Allocate(DType dtype, const Shape& shape);

  Device device() const { return device_; }
  bool dry_run() const { return dry_run_; }
  size_t num_bytes() const { return memory_.num_bytes(); }  // 0 in a dry run
  absl::Span<char> bytes() const { return {static_cast<char*>(memory_.data()), num_bytes()}; }
  size_t used_bytes() const { return used_bytes_; }
  size_t peak_bytes() const { return peak_bytes_; }

  // Takes what is allocated within ActivationScopes of this arena from `scratch`, which must
  // outlive it, and keeps here what stays: several such arenas then need memory for one pass's
  // scratch.
  void set_scratch(ActivationArena* scratch) { scratch_ = scratch; }

  // Frees everything. CHECKs that no scope is open.
  void Clear();

  // For tests, on the CPU: fills every allocation with NaN, so that reads of unwritten memory show.
  void set_poison(bool poison) { poison_ = poison; }

 private:
  friend class ActivationScope;
  ActivationArena(DeviceMemory memory, Device device, bool dry_run)
      : memory_(std::move(memory)), device_(device), dry_run_(dry_run) {}

  DeviceMemory memory_;
  Device device_;
  bool dry_run_;
  bool poison_ = false;
  ActivationArena* scratch_ = nullptr;
  int num_scopes_ = 0;  // open
  size_t used_bytes_ = 0;
  size_t peak_bytes_ = 0;
};

// Frees at its end what was allocated since its start. Scopes end in the reverse of their order.
class ActivationScope {
 public:
  explicit ActivationScope(ActivationArena& arena)
      : arena_(arena),
        memory_(arena.scratch_ == nullptr ? arena : *arena.scratch_),
        start_bytes_(memory_.used_bytes_) {
    ++arena_.num_scopes_;
  }
  ~ActivationScope() {
    --arena_.num_scopes_;
    memory_.used_bytes_ = start_bytes_;
  }
  ActivationScope(const ActivationScope&) = delete;
  ActivationScope& operator=(const ActivationScope&) = delete;

 private:
  ActivationArena& arena_;
  ActivationArena& memory_;
  const size_t start_bytes_;
};

}  // namespace strake

#endif  // STRAKE_CORE_MEMORY_ACTIVATION_ARENA_H_
