// AttentionBlock: the attention half of a transformer layer, on a pre-norm residual stream.
//
//   N = B*T tokens, R of them on this rank (N, or with sequence parallelism N over its ranks),
//   C hidden size, D head size; this rank's H query heads and KV key/value heads
//   norm        x [R, C] += residual       -> h [R, C]                  one pass
//   qkv         h [R, C]                   -> qkv [N, (H + 2 KV) D]      column parallel: Q, K, V
//   rope        qkv, its first H + KV heads in place, where positions are RoPE's
//   attention   qkv                        -> a [N, H D]
//   out         a [N, H D]                 -> o [R, C]                  row parallel
//   Forward returns o with x as its residual: the next norm adds them
//   Backward    dy [R, C], the gradient of o + x, becomes the gradient of x in place: the
//               residual's plus the branch's term
#ifndef STRAKE_MODELS_ATTENTION_BLOCK_H_
#define STRAKE_MODELS_ATTENTION_BLOCK_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/nn/linear.h"
#include "core/nn/norm.h"
#include "core/ops/attention/causal_attention.h"
#include "core/tensor/tensor.h"
#include "models/activation_recompute.h"
#include "models/model_config.h"
#include "models/residual_stream.h"
#include "parallel/tensor/column_parallel_linear.h"
#include "parallel/tensor/row_parallel_linear.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {

// Tensors that the backward pass recomputes are undefined before it.
struct AttentionBlockSaved {
  NormSaved norm;
  LinearSaved qkv_linear;
  Tensor qkv;        // [N, (H + 2 KV) D], after RoPE
  Tensor attention;  // [N, H D]
  Tensor lse;        // [B, H, T], f32 for bf16
  RowParallelLinearSaved out_linear;
  AttentionShape shape;
};

// Where new tokens stand behind those of a key/value cache.
struct CachedPositions {
  int64_t past = 0;         // tokens in the cache
  Tensor past_on_gpu = {};  // see core/ops/attention/cached_attention.h; may be undefined
  Tensor rope_table = {};   // undefined without RoPE
  int64_t rope_offset = 0;  // the first new token's row of it
};

class AttentionBlock {
 public:
  // Adds this rank's parameters of layer `index` to `arena`, in forward order.
  AttentionBlock(const ModelConfig& config, int64_t index, const TensorParallel& tp,
                 ParameterArena* arena, ActivationRecompute recompute = ActivationRecompute::kNone);

  // The same block without sequence parallelism: every rank holds every token.
  AttentionBlock WithoutSequenceParallelism() const;

  // rope_table [P, D] is undefined where positions are not RoPE's. o is allocated from ctx.arena().
  absl::StatusOr<ResidualStream> Forward(const Context& ctx, const ResidualStream& stream,
                                         int64_t seq_len, const Tensor& rope_table,
                                         AttentionBlockSaved* saved) const;

  absl::Status Backward(const Context& ctx, const Tensor& rope_table, Tensor dy,
                        AttentionBlockSaved* saved) const;

  // Runs one sequence's new tokens over the cache [P, KV D]. Not with sequence parallelism.
  absl::StatusOr<ResidualStream> ForwardCached(const Context& ctx, const ResidualStream& stream,
                                               const CachedPositions& at, Tensor k_cache,
                                               Tensor v_cache) const;

  // The shape of this rank's attention.
  AttentionShape ShapeFor(int64_t num_tokens, int64_t seq_len) const;

 private:
  // Allocates saved->qkv, attention and lse, for num_rows rows of the stream.
  void AllocateHeads(const Context& ctx, int64_t num_rows, int64_t seq_len,
                     AttentionBlockSaved* saved) const;
  // Computes qkv and rope, into qkv where it is defined; training and generation share it.
  absl::StatusOr<Tensor> Project(const Context& ctx, const Tensor& h, int64_t seq_len,
                                 int64_t position_offset, const Tensor& rope_table,
                                 LinearSaved* qkv_saved, const Tensor& qkv = Tensor()) const;
  // Computes qkv, rope and attention, into the tensors of AllocateHeads().
  absl::Status Attend(const Context& ctx, const Tensor& h, const Tensor& rope_table,
                      AttentionBlockSaved* saved) const;
  // Recomputes the tensors that Forward() has dropped.
  absl::Status Recompute(const Context& ctx, const Tensor& rope_table,
                         AttentionBlockSaved* saved) const;

  ActivationRecompute recompute_;
  int64_t num_heads_, num_kv_heads_, head_dim_;  // of this rank
  Norm norm_;
  ColumnParallelLinear qkv_;
  RowParallelLinear out_;
};

}  // namespace strake

#endif  // STRAKE_MODELS_ATTENTION_BLOCK_H_
