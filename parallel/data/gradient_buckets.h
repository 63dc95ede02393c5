// Cuts a parameter arena's index space into buckets, for collectives over data-parallel ranks, and
// buckets into equal parts, for sharded gradients and optimizer state. It only computes, so that a
// cost model counts exactly what the collectives move.
//
//   index space   0 ................................................ num_elements
//   buckets       |     b = 2      |        1        |         0        |
//   parts, R = 2  | r = 0 |   1    |   0    |   1    |    0    |   1    |
//
// A bucket is whole consecutive parameters with the gaps behind them, all in one part of the arena
// (ParameterArena::StartPart()). A parameter with ParameterRecord::own_bucket is alone in its
// bucket: for each R, its elements are cut alike in every arena that holds it. With ZeRO a bucket's
// parts are the pieces of a reduce-scatter and of an all-gather, and rank r updates part r of every
// bucket.
#ifndef STRAKE_PARALLEL_DATA_GRADIENT_BUCKETS_H_
#define STRAKE_PARALLEL_DATA_GRADIENT_BUCKETS_H_

#include <cstdint>
#include <vector>

#include "core/base/dtype.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/shard_range.h"

namespace strake {

// Options of how gradients are summed over the data-parallel ranks, and who updates what.
struct GradientReducerOptions {
  int zero = 0;
  // Minimum size of most buckets: large enough that a collective's latency is negligible, small
  // enough that a model's first bucket starts early in its backward pass.
  int64_t bucket_bytes = 25 << 20;
  // Rounds gradients, which are f32, to bf16 for their sum: half the bytes, and the error in
  // gradient_reducer.h.
  bool reduce_in_bf16 = false;
  // False waits for each bucket where it starts: tests use it to show that timing changes no bit.
  bool overlap = true;
};

// Returns the buckets from the arena's end to its start: the order in which the gradients of each
// of its parts become ready. A bucket ends as soon as its gradients, without padding, have at least
// bucket_bytes. It ends earlier where a part of the arena begins, or where a parameter with a
// bucket of its own is next. Together they cover the index space. Call it after Allocate(). CHECKs
// that bucket_bytes > 0.
std::vector<ShardRange> GradientBuckets(const ParameterArena& parameters, int64_t bucket_bytes);

// Pads each bucket of an arena of `dtype` to a multiple of num_ranks * 64 elements, so that its
// parts are equal. Does nothing where ranks do not share the updates: with zero 0. Must precede
// Allocate(); GradientBuckets() then cuts at the same parameters as without padding.
void PadBuckets(ParameterArena* parameters, DType dtype, int num_ranks,
                const GradientReducerOptions& options);

// The part of rank r of R. CHECKs that the R parts of whole units of 64 elements are equal.
ShardRange BucketPart(const ShardRange& bucket, int num_ranks, int rank);

// The ranges that a rank updates, in ascending order: the whole index space with zero 0, one rank
// or no parameters, else its part of every bucket.
std::vector<ShardRange> UpdatedRanges(const ParameterArena& parameters, int num_ranks, int rank,
                                      const GradientReducerOptions& options);

}  // namespace strake

#endif  // STRAKE_PARALLEL_DATA_GRADIENT_BUCKETS_H_
