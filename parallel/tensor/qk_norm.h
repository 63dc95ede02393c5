// QkNormLayer: RMSNorm of queries and keys with its learned weights, its heads sharded over T
// ranks.
//
//   N tokens (all of them, also with sequence parallelism); D head size; this rank's H query heads
//   and KV key/value heads; G statistics of a token: H + KV per head, 2 of whole projections
//
//                in                              local                       communication
//   Forward      qkv [N, (H + 2 KV) D]           its queries and keys =      whole: all-reduce of
//                                                norm(x) (offset + weight)   sums [N, 2]
//   Backward     dqkv [N, (H + 2 KV) D]          its queries and keys =      whole: all-reduce of
//                                                gradient of x; weights +=   sums [N, 2]
//   BackwardInput  the same                      without weights             the same
//   BackwardWeight its dqkv                      weights +=                  none
//
// Per head, nothing is communicated. Weights and their gradients:
//   per head   query, key [D], on every rank; gradients are ReplicatedGrad::kPartial
//   whole      query [H D], key [KV D], sharded as the columns of the projections
// A key/value head may have several holders (core/ops/qk_norm/qk_norm.h).
//
// dtypes: f32; bf16, with sums, rstd and gradients of weights in f32; f64 and c128 on the reference
// path.
#ifndef STRAKE_PARALLEL_TENSOR_QK_NORM_H_
#define STRAKE_PARALLEL_TENSOR_QK_NORM_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/memory/parameter.h"
#include "core/ops/qk_norm/qk_norm.h"
#include "core/tensor/tensor.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {

struct QkNormSaved {
  Tensor raw;   // [N, (H + KV) D], the queries and keys before
  Tensor rstd;  // [N, G]
  Tensor dy;    // [N, (H + KV) D], of queries and keys; BackwardInput leaves it to BackwardWeight
};

class QkNormLayer {
 public:
  // This rank's heads and weights, which must outlive the layer. `heads.num_ranks` is set here.
  QkNormLayer(const QkNormHeads& heads, const Parameter* query_weight, const Parameter* key_weight,
              double eps, double weight_offset, const TensorParallel& tp);

  // Sets the layer's name in records; null (the default) keeps the name of its user.
  void set_layer(const char* layer) { layer_ = layer; }

  // Allocates what Forward() saves, from ctx.arena(); qkv is the matrix to be normalized.
  void Allocate(const Context& ctx, const Tensor& qkv, QkNormSaved* saved) const;

  // Works in place. Writes `saved`, which Allocate() has made; null where no backward pass follows.
  absl::Status Forward(const Context& ctx, Tensor qkv, const QkNormSaved* saved) const;

  // Works in place. Calls ctx.GradReady() for the key's weight, then the query's.
  absl::Status Backward(const Context& ctx, const QkNormSaved& saved, Tensor dqkv) const;

  // The same in two passes, with the same bits. The first copies dy to the arena of `kept`
  // (core/nn/linear.h).
  absl::Status BackwardInput(const Context& ctx, const Context& kept, QkNormSaved* saved,
                             Tensor dqkv) const;
  absl::Status BackwardWeight(const Context& ctx, const QkNormSaved& saved) const;

 private:
  bool trained() const { return !query_->frozen; }
  absl::Status Run(const Context& ctx, const QkNormSaved& saved, const Tensor& dqkv,
                   const Tensor& dquery, const Tensor& dkey) const;
  void Announce(const Context& ctx) const;
  QkNormWeights Weights() const;
  // Undefined where no sums are communicated.
  Tensor AllocateSums(const Context& ctx, const Tensor& qkv) const;

  QkNormHeads heads_;
  const Parameter* query_;
  const Parameter* key_;
  double eps_, weight_offset_;
  TensorParallel tp_;
  const char* layer_ = nullptr;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_TENSOR_QK_NORM_H_
