// AdamW over the parameters in ranges of an arena's index space, of n elements together. The update
// itself is core/ops/adamw/adamw.h.
//
//   weights [num_elements]   changed in place within the ranges
//   gradients                read: a part of an array for each range
//   exp_avg, exp_avg_sq [n]  changed in place: the ranges, one after the other
//   masters [n]              with bf16 weights: changed in place; the weights are these, rounded
//
// Weights f32 or bf16, or f64 on the reference path; all else of the gradients' dtype. All on the
// arena's device. An element's bits do not depend on the ranges. Weight decay is applied where
// ParameterRecord::weight_decay says so.
// Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2;
// Micikevicius et al., "Mixed Precision Training", 2018, section 3.1 (masters).
#ifndef STRAKE_OPTIM_ADAMW_H_
#define STRAKE_OPTIM_ADAMW_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/cuda/cuda_runtime.h"
#include "core/device/context.h"
#include "core/memory/device_memory.h"
#include "core/memory/parameter_arena.h"
#include "core/ops/adamw/adamw.h"
#include "core/tensor/shard_range.h"
#include "core/tensor/tensor.h"

namespace strake {

// Holds its state and no step count. With the state and the step number, a resumed run changes the
// weights exactly, bit for bit, like an uninterrupted one.
class AdamW {
 public:
  // Starts with zero moments. The allocated `parameters` and the memory of `grads`, which are those
  // of the ranges and do not overlap, must outlive the optimizer. ResourceExhausted when there is
  // no memory.
  static absl::StatusOr<AdamW> Create(const ParameterArena& parameters,
                                      const std::vector<ArenaPart>& grads);

  // An optimizer without memory, of an arena without memory, for dry runs of Step() alone.
  static AdamW DryRun(const ParameterArena& parameters, const std::vector<ArenaPart>& grads);

  // The bytes that Create() allocates on the arena's device for n elements; the arena may be a dry
  // run's.
  static size_t StateBytes(const ParameterArena& parameters, int64_t num_elements);

  // Sets masters = weights: call it after the weights have been set, and before masters are
  // restored. Does nothing unless the weights are bf16. Returns an error of a copy.
  absl::Status SetMasters();

  // Sets the inputs of the next Step(). On a GPU, call it only when the last Step() has run: it
  // reads the same pinned memory. CHECKs eps > 0: the arena's gaps must stay zero, and 0 / 0 is
  // not.
  void SetStep(const AdamWStep& step);

  // Updates the ranges once, with the gradients scaled by `clip` (optim/grad_clip.h; undefined: not
  // scaled). Nothing changes where the norm is not finite. Depends on memory alone: each launch of
  // a CUDA graph that holds it uses the inputs last set.
  absl::Status Step(const Context& ctx, const Tensor& clip);

  // The number of elements.
  int64_t size() const { return exp_avg_.num_elements(); }
  // The parts of one of the arrays below, by range.
  std::vector<ArenaPart> Parts(const Tensor& array) const { return PartsOf(ranges_, array); }

  // The weights before any rounding to bf16: the masters, or the weights themselves.
  std::vector<ArenaPart> UnroundedWeights() const;

  // The state, [size()] each, to be saved and restored.
  const Tensor& exp_avg() const { return exp_avg_; }
  const Tensor& exp_avg_sq() const { return exp_avg_sq_; }
  const Tensor& masters() const { return masters_; }  // undefined without bf16 weights

 private:
  // Neighbours that are updated in one call.
  struct Run {
    Tensor values, grads;
    ShardRange state;  // their elements in the state's arrays
    bool weight_decay;
  };
  static void AddRuns(const ParameterArena& parameters, const ArenaPart& grads, int64_t state_begin,
                      std::vector<Run>* runs);

  AdamW(const ParameterArena& parameters, const std::vector<ArenaPart>& grads, DeviceMemory memory,
        PinnedMemory pinned);

  Tensor values_;  // [num_elements]
  std::vector<ShardRange> ranges_;
  std::vector<Run> runs_;
  DeviceMemory memory_;
  PinnedMemory pinned_;  // on a GPU
  Tensor exp_avg_, exp_avg_sq_, masters_;
  // A step's inputs: where SetStep() writes them, and where the update reads them.
  Tensor host_scalars_, scalars_;
  bool has_step_ = false, has_masters_ = false;
};

}  // namespace strake

#endif  // STRAKE_OPTIM_ADAMW_H_
