// HeadLoss: a language model's head and its loss, over chunks of tokens: only one chunk's logits
// are in memory at a time.
//
//   N tokens, R of them on this rank (N, or with sequence parallelism N over its ranks), C hidden
//   size, V this rank's part of the padded vocabulary, W [V, C]
//
//                     Forward, ForwardBackward                          communication
//   once              h [R, C] -> h [N, C]                              SP: all-gather
//   each chunk of n   logits [n, V] = h W^T, and with a soft cap c: c tanh(logits / c)
//                     loss [n] from logits, targets; 0 for kNoTarget    max [n], sums [2, n]
//                     ForwardBackward alone
//                     logits = dlogits, of scale * sum(loss)
//                     dh [n, C] = dlogits W
//                     dW [V, C] += dlogits^T h                      unless W is frozen
//   once              dh [N, C] -> dh [R, C]                            all-reduce (SP:
//                                                                       reduce-scatter)
//
// The sum of dh is in flight during the last chunk's dW. dW may wait for BackwardWeight, which then
// needs the dlogits [N, V] of all chunks, and communicates nothing. dtypes: f32; bf16, with loss
// and dW in f32; f64 and c128 on the reference path. All tensors but those share one.
#ifndef STRAKE_MODELS_HEAD_LOSS_H_
#define STRAKE_MODELS_HEAD_LOSS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/dtype.h"
#include "core/device/context.h"
#include "core/memory/parameter.h"
#include "core/nn/linear.h"
#include "core/ops/vocab_slice.h"
#include "core/tensor/tensor.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {

// How many tokens' logits are in memory at a time. The rule depends only on shapes and the device,
// so that bits, memory plans and collectives follow from them. The defaults are a GPU's.
struct LogitsChunk {
  static LogitsChunk For(Device device);

  size_t max_bytes = size_t{512} << 20;
  // Used even above max_bytes: fewer rows make slow products, and each chunk adds to all of dW.
  int64_t min_rows = 4096;

  // The number of rows of a chunk of logits [num_tokens, columns], at least 1: all rows where they
  // fit. The last chunk has the rest.
  int64_t NumRows(int64_t num_tokens, int64_t columns, DType dtype) const;
  int64_t NumChunks(int64_t num_tokens, int64_t columns, DType dtype) const;
};

// All live in activation arenas.
struct HeadLossSaved {
  Tensor h;                     // [N, C]: of all tokens
  Tensor dh;                    // [R, C], from ForwardBackward: the gradient of scale * sum(loss)
  std::vector<Tensor> dlogits;  // of the chunks, whose dW waits
};

// Allocates outputs from ctx.arena(). Wrong shapes are CHECK failures.
class HeadLoss {
 public:
  // `weight` is this rank's [V, C], the part `slice`, and must outlive the layer. A `softcap` of 0
  // is none.
  HeadLoss(Parameter* weight, WeightOwnership ownership, const VocabSlice& slice,
           const TensorParallel& tp, const LogitsChunk& chunk, double softcap = 0);

  const Parameter& weight() const { return *weight_; }

  // The same layer without sequence parallelism: every rank holds every token.
  HeadLoss WithoutSequenceParallelism() const;

  // Returns this rank's logits [N, V] of h [R, C] at once: for generation, which has few tokens.
  absl::StatusOr<Tensor> Logits(const Context& ctx, const Tensor& h) const;

  // Returns loss [N], the same on every rank, from h [R, C] and targets [N] (i32).
  // CheckTargets()'s error for a wrong target; on CUDA its loss and gradient are NaN.
  absl::StatusOr<Tensor> Forward(const Context& ctx, const Tensor& h, const Tensor& targets,
                                 HeadLossSaved* saved) const;

  // Also stores dh in `saved`, adds to the weight's gradient, and announces that gradient where
  // this layer owns it. With a context `kept` (core/nn/linear.h), its arena gets the dlogits, and
  // BackwardWeight() does what concerns the weight, with the same bits.
  absl::StatusOr<Tensor> ForwardBackward(const Context& ctx, const Tensor& h, const Tensor& targets,
                                         double scale, HeadLossSaved* saved,
                                         const Context* kept = nullptr) const;
  // Does nothing where nothing waits.
  absl::Status BackwardWeight(const Context& ctx, const HeadLossSaved& saved) const;

  // Calls visit(begin, logits [n, V]) for each chunk of h [N, C], tokens [begin, begin + n). The
  // logits are scratch; visit may overwrite them.
  absl::Status ForEachChunk(
      const Context& ctx, const Tensor& h,
      absl::FunctionRef<absl::Status(int64_t begin, const Tensor& logits)> visit) const;

 private:
  absl::StatusOr<Tensor> LocalLogits(const Context& ctx, const Tensor& h) const;
  // The logits come from the arena of `kept`, where it is not null, and stay.
  absl::Status ForEachChunk(
      const Context& ctx, const Context* kept, const Tensor& h,
      absl::FunctionRef<absl::Status(int64_t begin, const Tensor& logits)> visit) const;
  // Adds the chunk's dlogits^T h to the weight's gradient.
  absl::Status AddWeightGradient(const Context& ctx, const Tensor& dlogits, const Tensor& h) const;

  Parameter* weight_;
  WeightOwnership ownership_;
  VocabSlice slice_;
  TensorParallel tp_;
  LogitsChunk chunk_;
  double softcap_;
};

}  // namespace strake

#endif  // STRAKE_MODELS_HEAD_LOSS_H_
