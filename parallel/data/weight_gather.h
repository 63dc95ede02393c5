// WeightGather: all-gathers the weights that data-parallel ranks have updated in parts, while the
// next forward pass already uses those that have arrived.
//
//   values [num_elements]: the arena's, in place; each rank's part of a bucket becomes all ranks'
//
// One all-gather of equal parts for each bucket (gradient_buckets.h), started from the arena's
// start to its end: the order in which a forward pass reads them. Source: Rajbhandari et al.,
// "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", 2020, section 5.
#ifndef STRAKE_PARALLEL_DATA_WEIGHT_GATHER_H_
#define STRAKE_PARALLEL_DATA_WEIGHT_GATHER_H_

#include <deque>
#include <vector>

#include "absl/status/status.h"
#include "core/base/pending.h"
#include "core/memory/parameter.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/shard_range.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/data/gradient_buckets.h"

namespace strake {

// Used on the rank's thread; all ranks of dp make the same calls. On a GPU the gathers read what is
// now enqueued on the stream that `dp` is bound to, and waits are those of that stream.
class WeightGather {
 public:
  // The allocated arena, whose buckets are padded, and `dp` must outlive it.
  WeightGather(const ParameterArena& parameters, Communicator& dp,
               const GradientReducerOptions& options);

  // Starts the gather of every bucket. CHECKs that none is in flight.
  void Start();

  // Returns true while a started gather has not been waited for.
  bool in_flight() const { return !gathers_.empty(); }

  // Waits for the buckets up to the parameter's: call it before the parameter's value is read.
  // WaitForAll() returns its errors.
  void WaitFor(const Parameter& parameter);

  // Waits for all that are in flight. Returns the first error of a gather since Start(): the
  // weights are then unspecified.
  absl::Status WaitForAll();

 private:
  struct Gather {
    ShardRange bucket;
    Pending<Tensor> values;
  };
  void WaitForFirst();

  const Tensor values_;
  Communicator& dp_;
  const bool overlap_;
  std::vector<ShardRange> buckets_;  // ascending
  std::deque<Gather> gathers_;       // in flight
  absl::Status error_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_DATA_WEIGHT_GATHER_H_
