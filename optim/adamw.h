// AdamW over all parameters of an arena. The update itself is core/ops/adamw.h.
//
//   weights, exp_avg, exp_avg_sq: changed in place; gradients: read
//
// [num_elements], the arena's index space, for every array; f32, or f64 on the reference path.
// Weight decay is applied where Parameter::weight_decay says so.
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
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_buffer.h"

namespace strake {

// Holds the moments and no step count: with them and the step number, a resumed run does to the
// weights, bit for bit, what an uninterrupted one does.
class AdamW {
 public:
  // Zero moments. `parameters`, allocated with gradients, must outlive the optimizer.
  // ResourceExhausted when there is no memory.
  static absl::StatusOr<AdamW> Create(const ParameterArena& parameters);

  // What Create() allocates; the arena may be a dry run's.
  static size_t StateBytes(const ParameterArena& parameters);

  // One update of every parameter. CHECKs eps > 0: the arena's gaps must stay zero, and 0 / 0 is
  // not.
  absl::Status Step(const Context& ctx, const AdamWStep& step);

  // The state over the index space, [num_elements] each, to be saved and restored.
  const Tensor& exp_avg() const { return exp_avg_; }
  const Tensor& exp_avg_sq() const { return exp_avg_sq_; }

 private:
  // Neighbours in the index space that are updated in one call.
  struct Range {
    int64_t begin, end;
    bool weight_decay;
  };
  static std::vector<Range> RangesOf(const ParameterArena& parameters);

  AdamW(const ParameterArena& parameters, HostMemory memory);

  const ParameterArena* parameters_;
  std::vector<Range> ranges_;
  HostMemory memory_;
  Tensor exp_avg_, exp_avg_sq_;
};

}  // namespace strake

#endif  // STRAKE_OPTIM_ADAMW_H_
