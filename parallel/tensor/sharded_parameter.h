// Parameters that hold one tensor-parallel rank's part of a weight.
#ifndef STRAKE_PARALLEL_TENSOR_SHARDED_PARAMETER_H_
#define STRAKE_PARALLEL_TENSOR_SHARDED_PARAMETER_H_

#include <vector>

#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor.h"
#include "parallel/tensor/shard.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {

// How the ranks compute the gradient of a weight that each of them holds: kWhole, each the whole
// gradient; kPartial, each the terms of its own tokens. Weights on the residual stream are kPartial
// with sequence parallelism.
enum class ReplicatedGrad { kWhole, kPartial };

// Adds the part of rank tp.rank() of a weight that `shards` cuts, with T = tp.size(). `segments`
// are those of the whole weight: the contents of Hugging Face's tensors. Where a segment lies in
// several pieces (Q, K and V of one tensor), the parameter has one segment for each. A segment of
// columns may be a part of a tensor: its slice then gives full_columns and column_begin.
//
// Gradients of replicated key/value heads are partial: each holder has query heads of its own.
Parameter* AddShardedParameter(const std::vector<ParameterSegment>& segments,
                               const WeightShards& shards, const TensorParallel& tp,
                               bool weight_decay, WeightInit init, ParameterArena* arena);

// Adds a weight that every rank holds.
Parameter* AddReplicatedParameter(std::vector<ParameterSegment> segments, Shape shape,
                                  const TensorParallel& tp, ReplicatedGrad grad, bool weight_decay,
                                  WeightInit init, ParameterArena* arena);

}  // namespace strake

#endif  // STRAKE_PARALLEL_TENSOR_SHARDED_PARAMETER_H_
