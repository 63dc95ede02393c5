// AttentionBlock: the attention half of a transformer layer.
//
//   N = B*T tokens, R of them on this rank (N, or with sequence parallelism N over its ranks),
//   C hidden size, D head size; this rank's H query heads and KV key/value heads
//   branch      x [R, C] += residual  -> h [R, C]               residual_branch.h: norm
//   qkv         h [R, C]              -> qkv [N, (H + 2 KV) D]  column parallel: Q, K, V
//   qk norm     qkv, its first H + KV heads in place, where the model has it
//   rope        the same heads in place, where the layer has RoPE
//   attention   qkv                   -> a [N, H D]             the layer's AttentionKind; with
//                                                               context parallelism over its ranks
//   out         a [N, H D]            -> o [R, C]               row parallel
//   branch      o                     -> o [R, C]               norm after it, scale
//   Forward returns o with x as its residual: the next norm adds them
//   Backward    dy [R, C], the gradient of o + x -> dx [R, C] += the branch's term of the gradient
//               of x; dx may be dy, which then becomes the whole gradient
//   BackwardInput, BackwardWeight   the same in two passes; the second reads no dy and communicates
//               nothing
#ifndef STRAKE_MODELS_ATTENTION_BLOCK_H_
#define STRAKE_MODELS_ATTENTION_BLOCK_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/nn/linear.h"
#include "core/ops/attention/attention_shape.h"
#include "core/ops/documents.h"
#include "core/ops/rope/rope.h"
#include "core/tensor/tensor.h"
#include "models/activation_recompute.h"
#include "models/model_config.h"
#include "models/residual_branch.h"
#include "models/residual_stream.h"
#include "parallel/context/context_parallel.h"
#include "parallel/tensor/column_parallel_linear.h"
#include "parallel/tensor/qk_norm.h"
#include "parallel/tensor/row_parallel_linear.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {

// Tensors that the backward pass recomputes are undefined before it.
struct AttentionBlockSaved {
  ResidualBranchSaved branch;
  LinearSaved qkv_linear;
  QkNormSaved qk_norm;
  Tensor qkv;        // [N, (H + 2 KV) D], after RoPE
  Tensor attention;  // [N, H D]
  Tensor lse;        // [B, H, T], f32 for bf16
  RowParallelLinearSaved out_linear;
  AttentionShape shape;
  Documents documents;
  Tensor dqkv;  // [N, (H + 2 KV) D]; BackwardInput leaves it to BackwardWeight
};

// New tokens of a sequence, and where they stand behind those of its key/value cache.
struct CachedSequence {
  int64_t num_tokens = 0;   // rows of the stream, after those of the sequences before this one
  int64_t past = 0;         // tokens in the cache
  Tensor past_on_gpu = {};  // see core/ops/attention/cached_attention.h; may be undefined
  Tensor rope_table = {};   // the layer's; undefined without RoPE
  int64_t rope_offset = 0;  // the first new token's row of it
  Tensor k_cache = {}, v_cache = {};  // [P, KV D] of the layer
};

class AttentionBlock {
 public:
  // Adds this rank's parameters of layer `index` to `arena`, in forward order, and those of the
  // config's LoRA adapters to `adapters`.
  AttentionBlock(const ModelConfig& config, int64_t index, const TensorParallel& tp,
                 ParameterArena* arena, ActivationRecompute recompute = ActivationRecompute::kNone,
                 ParameterArena* adapters = nullptr, const ContextParallel& cp = ContextParallel());

  // The same block without sequence parallelism: every rank holds every token.
  AttentionBlock WithoutSequenceParallelism() const;

  // The layer's rope_table [P, R] is undefined where it rotates nothing. o is allocated from
  // ctx.arena(). The documents are those of all N tokens, and outlive the backward pass. With
  // context parallelism and documents, N and seq_len are those of this rank's chunks
  // (parallel/context/context_attention.h); without documents it has whole sequences alone.
  absl::StatusOr<ResidualStream> Forward(const Context& ctx, const ResidualStream& stream,
                                         int64_t seq_len, const Tensor& rope_table,
                                         AttentionBlockSaved* saved,
                                         const Documents& documents = {}) const;

  absl::Status Backward(const Context& ctx, const Tensor& rope_table, const Tensor& dy, Tensor dx,
                        AttentionBlockSaved* saved) const;

  // Both together give Backward()'s bits. What the second needs is allocated from the arena of
  // `kept` (core/nn/linear.h), recomputed tensors included, if Forward() has not kept it.
  absl::Status BackwardInput(const Context& ctx, const Context& kept, const Tensor& rope_table,
                             const Tensor& dy, Tensor dx, AttentionBlockSaved* saved) const;
  absl::Status BackwardWeight(const Context& ctx, const AttentionBlockSaved& saved) const;

  // Runs the sequences' new tokens, each over its own cache. Not with sequence parallelism.
  // With `are_chunks` they are this context-parallel rank's two chunks of one sequence's new
  // tokens, and every rank has the cache.
  absl::StatusOr<ResidualStream> ForwardCached(const Context& ctx, const ResidualStream& stream,
                                               absl::Span<const CachedSequence> sequences,
                                               bool are_chunks = false) const;

  // The shape of this rank's attention.
  AttentionShape ShapeFor(int64_t num_tokens, int64_t seq_len) const;

 private:
  // Allocates saved->qkv, qk_norm, attention and lse, for rows of the stream like x; what
  // BackwardWeight() needs in the arena of `kept`.
  void AllocateHeads(const Context& ctx, const Context& kept, const Tensor& x, int64_t seq_len,
                     AttentionBlockSaved* saved) const;
  // Normalizes the queries and keys of qkv, and rotates them: training and generation share both.
  absl::Status NormalizeHeads(const Context& ctx, const Tensor& qkv, QkNormSaved* saved) const;
  absl::Status RotateHeads(const Context& ctx, const Tensor& qkv, int64_t seq_len,
                           int64_t position_offset, const Tensor& rope_table,
                           const Tensor& positions = {}) const;
  // Brings the keys and values of every rank's chunks, this one's of qkv, to the cache.
  absl::Status GatherKeys(const Context& ctx, absl::Span<const CachedSequence> chunks,
                          const Tensor& qkv) const;
  // Computes qkv, its heads and attention, into the tensors of AllocateHeads().
  absl::Status Attend(const Context& ctx, const Tensor& h, const Tensor& rope_table,
                      AttentionBlockSaved* saved) const;
  // Recomputes the tensors that Forward() has dropped; those that BackwardWeight() needs in the
  // arena of `kept`.
  absl::Status Recompute(const Context& ctx, const Context& kept, const Tensor& rope_table,
                         AttentionBlockSaved* saved) const;
  // Computes the weight gradients too, where `kept` is null.
  absl::Status RunBackward(const Context& ctx, const Context* kept, const Tensor& rope_table,
                           const Tensor& dy, const Tensor& dx, AttentionBlockSaved* saved) const;

  // The ranks that share the sequences of a pass.
  ContextParallel ContextOf(const AttentionBlockSaved& saved) const {
    return saved.documents.defined() ? cp_ : ContextParallel();
  }

  ActivationRecompute recompute_;
  ContextParallel cp_;
  AttentionShape shape_;  // of this rank, without batch and length
  RopeHeads rope_heads_;
  ResidualBranch branch_;
  ColumnParallelLinear qkv_;
  std::optional<QkNormLayer> qk_norm_;
  RowParallelLinear out_;
};

}  // namespace strake

#endif  // STRAKE_MODELS_ATTENTION_BLOCK_H_
