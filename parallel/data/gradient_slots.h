// GradientSlots: memory for the gradients of buckets from their first term until they are summed,
// for a rank that keeps only a part of the sums.
//
//   slot    0, 1, 2               3
//   bucket  all but the last,     the last: of the first parameters, which an embedding that is
//           b in slot b mod 3     tied to the head needs for the whole micro-batch
//
// Three slots suffice for the other buckets. While one bucket is being summed, the bucket that
// fills and its successor need a slot each, since a layer may write its weight's gradient before it
// announces its bias's. Each slot is as large as the largest bucket that it holds.
//
// A micro-batch fills the consecutive buckets of one part of the arena. Any three have three
// different slots, so it does not matter with which of them the part begins.
#ifndef STRAKE_PARALLEL_DATA_GRADIENT_SLOTS_H_
#define STRAKE_PARALLEL_DATA_GRADIENT_SLOTS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/shard_range.h"
#include "core/tensor/tensor.h"

namespace strake {

// Places the gradients of the parameters that begin in `range` in `grads` [range.size()], which
// begins at the range's begin; null data where it has null data.
void PlaceGradients(ParameterArena* parameters, const ShardRange& range, const Tensor& grads);

// Zeroes the gaps and the gradients of the parameters that begin in `range`, as PlaceGradients()
// has placed them in `grads`; gradients that their layers overwrite are only marked.
absl::Status ClearGradients(const Context& ctx, ParameterArena* parameters, const ShardRange& range,
                            const Tensor& grads);

// `buckets` are those of GradientBuckets().
class GradientSlots {
 public:
  // The number of elements of all slots.
  static int64_t NumElements(const std::vector<ShardRange>& buckets);

  // `memory` [NumElements(buckets)]. No parameter has a gradient yet: their data are null.
  GradientSlots(ParameterArena* parameters, std::vector<ShardRange> buckets, const Tensor& memory);

  // The bucket's part of its slot, [bucket's size].
  Tensor grads(int bucket) const;

  // Starts a micro-batch that fills the buckets [begin, end): assigns cleared slots to the first
  // two of them, and to the arena's last bucket where it is one of them. All slots are free before.
  // Returns an error of zeroing, as does AssignAfterNext().
  absl::Status StartMicroBatch(const Context& ctx, int begin, int end);
  // Takes the complete bucket's gradients from its parameters, so that nothing more is added to
  // them.
  void Complete(int bucket);
  // Frees the slot of a bucket that has been summed.
  void Free(int bucket);
  // Assigns a cleared slot to the bucket after the next, if this micro-batch fills it and it uses a
  // shared slot. That slot must be free.
  absl::Status AssignAfterNext(const Context& ctx, int bucket);

 private:
  static constexpr int kNumShared = 3;
  static constexpr int kNumSlots = kNumShared + 1;
  static constexpr int kFree = -1;

  static int SlotOf(int bucket, int num_buckets);
  static std::array<int64_t, kNumSlots> Sizes(const std::vector<ShardRange>& buckets);
  int num_buckets() const { return static_cast<int>(buckets_.size()); }
  absl::Status Assign(const Context& ctx, int bucket);

  ParameterArena* parameters_;
  std::vector<ShardRange> buckets_;
  std::array<Tensor, kNumSlots> slots_;
  std::array<int, kNumSlots> holders_;  // the bucket, or kFree
  int end_ = 0;                         // of the buckets that this micro-batch fills
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_DATA_GRADIENT_SLOTS_H_
