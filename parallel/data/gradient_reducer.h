// GradientReducer: sums the gradients of one rank over the data-parallel axis while the backward
// pass still computes others.
//
//   zero   gradients [elements]             reduced                    this rank's sums, grads()
//   0, 1   the arena's, all                 in the last micro-batch    all; its part of each bucket
//   2      its parts, and slots of buckets  in every micro-batch       its part of each bucket
//
// A micro-batch's backward pass is one pass for each of the arena's parts
// (ParameterArena::StartPart()): a model without pipeline chunks has one part. Passes do not
// overlap, and those of different parts may alternate.
//
// A pass announces its part's parameters in the reverse of the arena's order. The reducer CHECKs
// this, so a layer's members, its parameters in the arena, its announcements and the buckets cannot
// disagree. The index space is cut into buckets in that order (gradient_buckets.h). Once its first
// parameter has been announced, a bucket is summed: all-reduced with zero 0, reduce-scattered in
// place, in equal parts, with 1 and 2. With zero 2 the bucket's gradients are in a slot, and this
// rank's part of their sum is added to the gradients that it keeps. Results are sums, never means.
// One rank has no collectives, whatever `zero` is.
//
// Sums with zero 0 and 1 in f32 stay in flight until the last pass of the step has finished, so
// that other parts' passes hide them. Other sums are waited for in the pass that starts them.
//
// With slots, Parameter::grad has null data where a bucket has no slot (gradient_slots.h), and
// always between passes.
//
// With reduce_in_bf16 each rank rounds a bucket's gradients to bf16, in one of two buffers. Their
// sum over the D ranks, in bf16, replaces the gradients of zero 0 and 1, and is added to those of
// zero 2, in f32. Communicators of our own add in f32 and round once. With g_r the gradient of rank
// r and u = 2^-8, half a unit in the last place of bf16,
//
//   |result - sum over r of g_r| <= (2 u + u^2 + (D - 1) 2^-23) * sum over r of |g_r|
//
// where nothing overflows or is subnormal. NCCL rounds every partial sum: (1 + u)^D - 1 instead.
//
// Bits: with equal gradients, results are the same for every bucket size, for `overlap` on or off,
// for zero 0 and 1, and for every cut into parts whose micro-batches have one order, except over
// NCCL, whose order of sums depends on place and collective. Gaps between parameters stay 0.
// Source: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter
// Models", 2020, section 5; Li et al., "PyTorch Distributed", 2020, section 3.2 (buckets).
#ifndef STRAKE_PARALLEL_DATA_GRADIENT_REDUCER_H_
#define STRAKE_PARALLEL_DATA_GRADIENT_REDUCER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/pending.h"
#include "core/device/context.h"
#include "core/memory/device_memory.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/shard_range.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/data/gradient_buckets.h"
#include "parallel/data/gradient_slots.h"

namespace strake {

// Used on the rank's thread. Per step: ClearGrads(), then for each micro-batch and part
// StartMicroBatch(), a backward pass that adds to the part's gradients and announces each,
// FinishMicroBatch(). All ranks of dp do the same. On a GPU, work is enqueued on the context's
// stream, which `dp` is bound to.
class GradientReducer {
 public:
  // Both must outlive the reducer. The arena's buckets have been padded (PadBuckets()), and it is
  // allocated: with gradients for zero 0 and 1; without for zero 2, whose gradients are allocated
  // here. ResourceExhausted when there is no memory. With an arena without memory, the reducer is
  // for dry runs, and so must `dp` be.
  static absl::StatusOr<std::unique_ptr<GradientReducer>> Create(
      ParameterArena* parameters, Communicator& dp, const GradientReducerOptions& options);

  // The bytes of all gradients on a rank, the arena's and the buffers of bf16 included. The arena
  // may be a dry run's.
  static size_t GradientBytes(const ParameterArena& parameters, int dp_size,
                              const GradientReducerOptions& options);

  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  // Starts the pass of a micro-batch for one of the arena's parts; `last` is true for the part's
  // last one of the step. CHECKs that the previous pass has been finished, and that ClearGrads()
  // was called since the part's last one of a step.
  void StartMicroBatch(const Context& ctx, bool last, int part = 0);

  // Takes a gradient that has all of this micro-batch's terms: Context::set_on_grad_ready()'s
  // callback. CHECKs that the parameter is the next one from the part's end. FinishMicroBatch()
  // returns its errors.
  void OnGradReady(const Context& ctx, const Parameter& parameter);

  // Finishes the pass, and with the last pass of the step all sums. CHECKs that every parameter of
  // the part has been announced. Returns the first error so far of a collective or an op since
  // Create(): the gradients are then unspecified.
  absl::Status FinishMicroBatch(const Context& ctx);

  // Returns an error of a backward pass, or that of a sum before it: the groups of a rank fail
  // together, so that the sum's is its cause.
  absl::Status CauseOf(const absl::Status& status) const {
    return status.ok() || error_.ok() ? status : error_;
  }

  // The gradients of the ranges that this rank updates (UpdatedRanges()), always in the same
  // memory: summed over dp after the last pass of the step.
  const std::vector<ArenaPart>& grads() const { return grads_; }

  // Clears the gradients, as ClearGradients(); call it before a step's first pass. CHECKs that no
  // pass runs, and that no sum is in flight.
  absl::Status ClearGrads(const Context& ctx);

 private:
  struct Reduction {
    int bucket = 0;
    Pending<Tensor> sums;  // of all of the bucket, or of this rank's part of it
  };
  // The numbers of elements that the reducer allocates.
  struct OwnElements {
    int64_t grads = 0;    // of the gradients' dtype
    int64_t staging = 0;  // of bf16
  };
  static OwnElements Own(const ParameterArena& parameters, int dp_size,
                         const GradientReducerOptions& options);

  GradientReducer(ParameterArena* parameters, Communicator& dp,
                  const GradientReducerOptions& options);
  absl::Status Allocate();
  bool sharded() const { return slots_.has_value(); }
  bool in_bf16() const { return staging_.num_elements() > 0; }
  // Slots, and buffers of bf16, suffice for one bucket beside the next.
  bool limited() const { return sharded() || in_bf16(); }
  // The number of buckets from the arena's end to records()[i].
  int NumBucketsDownTo(int i) const;
  Tensor BucketGrads(int bucket) const;
  void Reduce(const Context& ctx, int bucket);
  Reduction StartSum(const Context& ctx, int bucket);
  void FinishOldest(const Context& ctx);
  absl::Status TakeSums(const Context& ctx, int bucket, const Tensor& sums) const;
  // This rank's part of a bucket.
  const ArenaPart& PartOf(int bucket) const { return grads_[buckets_.size() - 1 - bucket]; }

  ParameterArena* const parameters_;
  Communicator& dp_;
  const GradientReducerOptions options_;
  const std::vector<ShardRange> ranges_;  // that this rank updates
  const std::vector<ShardRange> buckets_;
  DeviceMemory memory_;
  Tensor kept_;     // with zero 2: the elements of `ranges_`
  Tensor staging_;  // with reduce_in_bf16 and more than one rank: two buffers for any bucket
  std::optional<GradientSlots> slots_;  // with zero 2 and more than one rank
  std::vector<ArenaPart> grads_;

  std::vector<bool> summed_;  // the parts whose last pass has finished since ClearGrads()
  bool in_micro_batch_ = false;
  bool last_ = false;
  int part_ = 0;
  // The parameters [begin, end) of records() that have not been announced in this pass.
  int waiting_begin_ = 0, waiting_end_ = 0;
  int next_bucket_ = 0;  // to be reduced
  absl::Status error_;
  // Destroyed before the memory that they read.
  std::deque<Reduction> reductions_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_DATA_GRADIENT_REDUCER_H_
