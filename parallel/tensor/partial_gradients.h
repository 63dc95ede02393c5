// PartialGradients: sums, over the tensor-parallel ranks that hold a slice of a weight, gradients
// of which each has only a term.
//
//   grads[i] on each holder = the sum over the holders of grads[i],  i in partial segments
//
// T ranks, KV key/value heads. The terms are partial, and the holders are
//
//   of replicated key/value heads            T/KV neighbours: ranks of equal rank / (T/KV)
//   of replicated parameters that work on    all T
//   the rank's own tokens alone (sequence parallelism)
//
// Once per step, when a gradient holds the terms of all micro-batches and data-parallel ranks; the
// bits are then the same on all holders. dtypes: all.
// Source: Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models",
// 2022, section 4.2.2; Ainslie et al., "GQA", 2023, for the heads.
#ifndef STRAKE_PARALLEL_TENSOR_PARTIAL_GRADIENTS_H_
#define STRAKE_PARALLEL_TENSOR_PARTIAL_GRADIENTS_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/shard_range.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {

// Elements that are summed over all ranks and over the holders of a key/value head; where every
// rank holds the same head, its elements are among the former.
struct PartialElements {
  int64_t all_ranks = 0;
  int64_t kv_holders = 0;
  bool operator==(const PartialElements&) const = default;
};

class PartialGradients {
 public:
  // Called on every rank of `tp`: splits its communicator, to a group named "kv", where key/value
  // heads have several holders but not all ranks. `parameters` and the communicator must outlive
  // the result. CHECKs that all such heads have equally many holders. An error where the split has.
  static absl::StatusOr<PartialGradients> Create(const ParameterArena& parameters,
                                                 const TensorParallel& tp);
  // The same for dry runs alone: needs no communicator, and makes none.
  static PartialGradients Planned(const ParameterArena& parameters, const TensorParallel& tp);

  // The partial elements of `range` of the index space: what one Sum() all-reduces.
  static PartialElements Count(const ParameterArena& parameters, int num_ranks,
                               const ShardRange& range);

  // grads [range.size()] are the elements `range` of the index space, the same range on all ranks
  // of `tp`. One all-reduce for each kind of holders that has elements in the range; staging is
  // allocated from ctx.arena(). An error where a collective has.
  absl::Status Sum(const Context& ctx, const ShardRange& range, Tensor grads) const;

  // Of this rank's key/value holders; null where Create() made none.
  const Communicator* kv_communicator() const { return kv_communicator_.get(); }

 private:
  PartialGradients(const ParameterArena& parameters, const TensorParallel& tp)
      : parameters_(&parameters), tp_(tp) {}

  absl::Status SumOver(const Context& ctx, const TensorParallel& holders, const ShardRange& range,
                       const Tensor& grads) const;

  const ParameterArena* parameters_;
  TensorParallel tp_;
  std::unique_ptr<Communicator> kv_communicator_;
  TensorParallel kv_;  // the holders of this rank's key/value heads
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_TENSOR_PARTIAL_GRADIENTS_H_
