// AdamW over the parameters in a range of an arena's index space. The update itself is
// core/ops/adamw.h.
//
//   weights [num_elements]             changed in place within the range
//   gradients [range.size()]           read
//   exp_avg, exp_avg_sq [range.size()] changed in place
//
// All of one dtype: f32, or f64 on the reference path. An element's bits do not depend on the range
// that it is updated in. Weight decay is applied where Parameter::weight_decay says so.
// Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.
#ifndef STRAKE_OPTIM_ADAMW_H_
#define STRAKE_OPTIM_ADAMW_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/ops/adamw.h"
#include "core/tensor/shard_range.h"
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_buffer.h"

namespace strake {

// Holds the moments and no step count: with them and the step number, a resumed run does to the
// weights, bit for bit, what an uninterrupted one does.
class AdamW {
 public:
  // Zero moments. The allocated `parameters` and the memory of `grads`, which are those of the
  // range, must outlive the optimizer. ResourceExhausted when there is no memory.
  static absl::StatusOr<AdamW> Create(const ParameterArena& parameters, const ShardRange& range,
                                      const Tensor& grads);

  // What Create() allocates; the arena may be a dry run's.
  static size_t StateBytes(const ParameterArena& parameters, const ShardRange& range);

  // One update of the range. CHECKs eps > 0: the arena's gaps must stay zero, and 0 / 0 is
  // not.
  absl::Status Step(const Context& ctx, const AdamWStep& step);

  const ShardRange& range() const { return range_; }

  // The state over the range, [range().size()] each, to be saved and restored.
  const Tensor& exp_avg() const { return exp_avg_; }
  const Tensor& exp_avg_sq() const { return exp_avg_sq_; }

 private:
  // Neighbours in the index space that are updated in one call.
  struct Run {
    ShardRange range;
    bool weight_decay;
  };
  static std::vector<Run> RunsOf(const ParameterArena& parameters, const ShardRange& range);

  AdamW(const ParameterArena& parameters, const ShardRange& range, const Tensor& grads,
        HostMemory memory);

  Tensor values_;  // [num_elements]
  ShardRange range_;
  std::vector<Run> runs_;
  Tensor grads_;
  HostMemory memory_;
  Tensor exp_avg_, exp_avg_sq_;
};

}  // namespace strake

#endif  // STRAKE_OPTIM_ADAMW_H_
