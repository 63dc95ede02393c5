// Cuts a parameter arena's index space for data parallelism: into one range per rank, for sharded
// gradients and optimizer state, and into buckets, for reductions. It only computes, so that a cost
// model counts exactly what the reducer does.
#ifndef STRAKE_PARALLEL_DATA_GRADIENT_BUCKETS_H_
#define STRAKE_PARALLEL_DATA_GRADIENT_BUCKETS_H_

#include <cstdint>
#include <vector>

#include "core/memory/parameter_arena.h"
#include "core/tensor/shard_range.h"

namespace strake {

// The range that rank r of R updates: in units of 64 elements, [r*U/R, (r+1)*U/R) of the space's U,
// rounded down, so that sizes differ by at most 64 elements and may be 0. It does not depend on the
// buckets. CHECKs that num_elements is a multiple of 64, as an arena's is, and 0 <= r < R.
ShardRange DataParallelRange(int64_t num_elements, int num_ranks, int rank);

// The range that rank r of R updates: the whole index space with ZeRO stage 0, else its
// DataParallelRange.
ShardRange UpdatedRange(int64_t num_elements, int num_ranks, int rank, int zero);

// [R]: the number of elements of `part` in each rank's range. They are consecutive runs of it, in
// rank order: the counts of a reduce-scatter or all-gather of the part.
std::vector<int64_t> DataParallelCounts(const ShardRange& part, int64_t num_elements,
                                        int num_ranks);

// Cuts the index space into buckets of whole consecutive parameters, with the gaps behind them,
// from the arena's end to its start: the order in which gradients become ready. Each bucket but the
// last ends as soon as its gradients have at least bucket_bytes; together they cover the index
// space. Call it after Allocate(); bucket_bytes is positive.
std::vector<ShardRange> GradientBuckets(const ParameterArena& parameters, int64_t bucket_bytes);

}  // namespace strake

#endif  // STRAKE_PARALLEL_DATA_GRADIENT_BUCKETS_H_
