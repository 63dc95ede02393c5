// TensorParallel: a rank's place among the ranks that share every layer, and how tokens move
// between them.
//
//   N tokens, C features, T ranks    plain                    with sequence parallelism
//   residual stream                  [N, C] on every rank     [N/T, C], rows [t*N/T, (t+1)*N/T)
//   GatherTokens                     x itself                 all-gather, [N, C]
//   SumTokens                        all-reduce               reduce-scatter, to the rank's rows
//
// One rank communicates nothing, and neither does a dry run, unless the group is made for dry runs.
// Errors name the call site, `site`.
// Source: Shoeybi et al., "Megatron-LM", 2019, section 3 (operators f and g); Korthikanti et al.,
// "Reducing Activation Recomputation in Large Transformer Models", 2022, section 4.2.2.
#ifndef STRAKE_PARALLEL_TENSOR_TENSOR_PARALLEL_H_
#define STRAKE_PARALLEL_TENSOR_TENSOR_PARALLEL_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/pending.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/call_site.h"
#include "parallel/comm/communicator.h"

namespace strake {

// Cheap to copy; refers to the communicator.
class TensorParallel {
 public:
  // One rank.
  TensorParallel() = default;
  // The ranks of `communicator`, which must outlive this.
  explicit TensorParallel(Communicator& communicator, bool sequence_parallel = false);
  // Rank `rank` of `size` for dry runs alone, without a communicator.
  static TensorParallel Planned(int rank, int size, bool sequence_parallel = false);

  int rank() const { return rank_; }
  int size() const { return size_; }
  // False for one rank.
  bool sequence_parallel() const { return sequence_parallel_; }
  // The same ranks without sequence parallelism, so that each holds every token: for generation,
  // whose tokens come one at a time.
  TensorParallel WithoutSequenceParallelism() const;
  // The communicator. CHECKs that there is one.
  Communicator& communicator() const;

  // The number of this rank's residual-stream tokens, of N. CHECKs that T divides N.
  int64_t NumLocalTokens(int64_t num_tokens) const;
  // The index of the first of them.
  int64_t FirstLocalToken(int64_t num_tokens) const;

  // x [N/T, C] -> [N, C], allocated from ctx.arena(); x itself without sequence parallelism.
  absl::StatusOr<Tensor> GatherTokens(const Context& ctx, const Tensor& x,
                                      CallSite site = CallSite::Here()) const;

  // Starts y [N/T, C] = the rank's rows of the sum over ranks of x [N, C]; y may be those rows of
  // x. Without sequence parallelism y is x [N, C], summed in place.
  Pending<Tensor> SumTokens(const Context& ctx, const Tensor& x, const Tensor& y,
                            CallSite site = CallSite::Here()) const;
  // The same in place: the result is x, or the rank's rows of it.
  Pending<Tensor> SumTokensInPlace(const Context& ctx, const Tensor& x,
                                   CallSite site = CallSite::Here()) const;

  // Gathers the ranks' columns [N, C/T] side by side: [N, C], allocated from ctx.arena(); x itself
  // on one rank. A collective for each row: for generation, which has few.
  absl::StatusOr<Tensor> GatherColumns(const Context& ctx, const Tensor& x,
                                       CallSite site = CallSite::Here()) const;

  // All-reduce in place: the elementwise sum and maximum over ranks, whatever the layout of tokens.
  absl::Status AllReduceSum(const Context& ctx, const Tensor& x,
                            CallSite site = CallSite::Here()) const;
  absl::Status AllReduceMax(const Context& ctx, const Tensor& x,
                            CallSite site = CallSite::Here()) const;

 private:
  bool Communicates(const Context& ctx) const {
    if (!ctx.dry_run()) return size_ > 1;
    return size_ > 1 && communicator_ != nullptr && communicator_->dry_run();
  }

  Communicator* communicator_ = nullptr;
  int rank_ = 0;
  int size_ = 1;
  bool sequence_parallel_ = false;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_TENSOR_TENSOR_PARALLEL_H_
