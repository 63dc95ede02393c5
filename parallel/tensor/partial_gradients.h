// PartialGradients: sums gradients over the tensor-parallel ranks that hold the same slice of a
// weight and have one term of its gradient each.
//
//   grads[i] on each holder = the sum over the holders of grads[i],  i in partial segments
//
// T ranks, KV key/value heads. The terms are partial, and the holders are
//
//   of replicated key/value heads            T/KV neighbours: ranks of equal rank / (T/KV)
//   of replicated parameters that work on    all T
//   the rank's own tokens alone (sequence parallelism)
//
// Call it once per step, when gradients hold the terms of all micro-batches and data-parallel
// ranks. Afterwards the bits are the same on all holders. dtypes: all.
// Source: Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models",
// 2022, section 4.2.2; Ainslie et al., "GQA", 2023, for the heads.
#ifndef STRAKE_PARALLEL_TENSOR_PARTIAL_GRADIENTS_H_
#define STRAKE_PARALLEL_TENSOR_PARTIAL_GRADIENTS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/shard_range.h"
#include "parallel/comm/communicator.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {

// Numbers of elements that are summed over all ranks, and over the holders of a key/value head.
// Where every rank holds the same head, its elements count as summed over all ranks.
struct PartialElements {
  int64_t all_ranks = 0;
  int64_t kv_holders = 0;
  bool operator==(const PartialElements&) const = default;
};

class PartialGradients {
 public:
  // Splits the communicator of `tp`, into groups named "kv", where key/value heads have several
  // holders but not all ranks. Every rank of `tp` calls it. `parameters` and the communicator must
  // outlive the result. CHECKs that all such heads have equally many holders. Returns the split's
  // error.
  static absl::StatusOr<PartialGradients> Create(const ParameterArena& parameters,
                                                 const TensorParallel& tp);

  // Counts the partial elements in ranges of the index space: those that one Sum() all-reduces.
  static PartialElements Count(const ParameterArena& parameters, int num_ranks,
                               const std::vector<ShardRange>& ranges);

  // grads are parts of the index space, the same on all ranks of `tp`. One all-reduce for each kind
  // of holders that has elements in them; staging is allocated from ctx.arena(). Returns a
  // collective's error.
  absl::Status Sum(const Context& ctx, const std::vector<ArenaPart>& grads) const;

  // The group of this rank's key/value holders; null where Create() made none.
  Communicator* kv_communicator() const { return kv_communicator_.get(); }

 private:
  PartialGradients(const ParameterArena& parameters, const TensorParallel& tp)
      : parameters_(&parameters), tp_(tp) {}

  absl::Status SumOver(const Context& ctx, const TensorParallel& holders,
                       const std::vector<ArenaPart>& grads) const;

  const ParameterArena* parameters_;
  TensorParallel tp_;
  std::unique_ptr<Communicator> kv_communicator_;
  TensorParallel kv_;  // the holders of this rank's key/value heads
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_TENSOR_PARTIAL_GRADIENTS_H_
