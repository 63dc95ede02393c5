// AdamW over the parameters in a range of an arena's index space. The update itself is
// core/ops/adamw/adamw.h.
//
//   weights [num_elements]             changed in place within the range
//   gradients [range.size()]           read
//   exp_avg, exp_avg_sq [range.size()] changed in place
//   masters [range.size()]             with bf16 weights: changed in place; the weights are these,
//                                      rounded
//
// Weights f32 or bf16, or f64 on the reference path; all else of the gradients' dtype. All on the
// arena's device. An element's bits do not depend on the range that it is updated in. Weight decay
// is applied where ParameterRecord::weight_decay says so.
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

// Holds its state and no step count: with the state and the step number, a resumed run does to the
// weights, bit for bit, what an uninterrupted one does.
class AdamW {
 public:
  // Zero moments. The allocated `parameters` and the memory of `grads`, which are those of the
  // range, must outlive the optimizer. ResourceExhausted when there is no memory.
  static absl::StatusOr<AdamW> Create(const ParameterArena& parameters, const ShardRange& range,
                                      const Tensor& grads);

  // Without memory, of an arena without it, for dry runs of Step() alone.
  static AdamW DryRun(const ParameterArena& parameters, const ShardRange& range,
                      const Tensor& grads);

  // What Create() allocates on the arena's device; the arena may be a dry run's.
  static size_t StateBytes(const ParameterArena& parameters, const ShardRange& range);

  // masters = weights: after the weights have been set, and before masters are restored. With
  // weights of another dtype than bf16 there is nothing to do. An error of a copy.
  absl::Status SetMasters();

  // What the next Step() is. On a GPU, not before the last one has run: it reads the same pinned
  // memory. CHECKs eps > 0: the arena's gaps must stay zero, and 0 / 0 is not.
  void SetStep(const AdamWStep& step);

  // One update of the range, with the gradients scaled by `clip` (optim/grad_clip.h; undefined: as
  // they are). Nothing changes where the norm is not finite. Depends on nothing but memory: a CUDA
  // graph that holds it does, each time, the step that has been set.
  absl::Status Step(const Context& ctx, const Tensor& clip);

  const ShardRange& range() const { return range_; }

  // The state over the range, [range().size()] each, to be saved and restored.
  const Tensor& exp_avg() const { return exp_avg_; }
  const Tensor& exp_avg_sq() const { return exp_avg_sq_; }
  const Tensor& masters() const { return masters_; }  // undefined without bf16 weights

 private:
  // Neighbours that are updated in one call; from the range's begin.
  struct Run {
    ShardRange range;
    bool weight_decay;
  };
  static std::vector<Run> RunsOf(const ParameterArena& parameters, const ShardRange& range);

  AdamW(const ParameterArena& parameters, const ShardRange& range, const Tensor& grads,
        DeviceMemory memory, PinnedMemory pinned);

  Tensor values_;  // [range.size()], as all here
  ShardRange range_;
  std::vector<Run> runs_;
  Tensor grads_;
  DeviceMemory memory_;
  PinnedMemory pinned_;  // on a GPU
  Tensor exp_avg_, exp_avg_sq_, masters_;
  // Of the step: where SetStep() writes them, and where the update reads them.
  Tensor host_scalars_, scalars_;
  bool has_step_ = false, has_masters_ = false;
};

}  // namespace strake

#endif  // STRAKE_OPTIM_ADAMW_H_
