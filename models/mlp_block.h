// MlpBlock: the feed-forward half of a transformer layer.
//
//   N tokens, R of them on this rank (N, or with sequence parallelism N over its ranks),
//   C hidden size; this rank's F of the intermediate size
//   branch      x [R, C] += residual  -> h [R, C]       residual_branch.h: norm
//   up          h [R, C]              -> u [N, F]       column parallel; if gated, [N, 2F] with
//                                                       segments gate, up
//   activation  u                     -> g [N, F]       GELU (tanh) is part of the two products
//   down        g [N, F]              -> o [R, C]       row parallel
//   branch      o                     -> o [R, C]       norm after it, scale
//   Forward returns o with x as its residual: the next norm adds them
//   Backward    dy [R, C], the gradient of o + x -> dx [R, C] += the branch's term of the gradient
//               of x; dx may be dy, which then becomes the whole gradient
//   BackwardInput, BackwardWeight   the same in two passes; the second reads no dy and communicates
//               nothing
//
// In a layer with a parallel residual, the block gets attention's output and its residual. It reads
// the residual alone, and returns the sum of both halves' outputs. Source: Wang and Komatsuzaki,
// "GPT-J-6B", 2021.
#ifndef STRAKE_MODELS_MLP_BLOCK_H_
#define STRAKE_MODELS_MLP_BLOCK_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/nn/linear.h"
#include "core/ops/activation/activation_kind.h"
#include "core/tensor/tensor.h"
#include "models/activation_recompute.h"
#include "models/model_config.h"
#include "models/residual_branch.h"
#include "models/residual_stream.h"
#include "parallel/tensor/column_parallel_linear.h"
#include "parallel/tensor/row_parallel_linear.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {

// Tensors that the backward pass recomputes are undefined before it.
struct MlpBlockSaved {
  ResidualBranchSaved branch;
  LinearSaved up_linear;
  Tensor up;  // [N, F], or [N, 2F] that the backward pass overwrites
  RowParallelLinearSaved down_linear;
  Tensor du;  // like `up`; BackwardInput leaves it to BackwardWeight
};

class MlpBlock {
 public:
  // Adds this rank's parameters of layer `index` to `arena`, in forward order, and those of the
  // config's LoRA adapters to `adapters`.
  MlpBlock(const ModelConfig& config, int64_t index, const TensorParallel& tp,
           ParameterArena* arena, ActivationRecompute recompute = ActivationRecompute::kNone,
           ParameterArena* adapters = nullptr);

  // The same block without sequence parallelism: every rank holds every token.
  MlpBlock WithoutSequenceParallelism() const;

  // o is allocated from ctx.arena(), or in a parallel residual with no norm after it is stream.x.
  absl::StatusOr<ResidualStream> Forward(const Context& ctx, const ResidualStream& stream,
                                         MlpBlockSaved* saved) const;

  absl::Status Backward(const Context& ctx, const Tensor& dy, Tensor dx,
                        MlpBlockSaved* saved) const;

  // Both together give Backward()'s bits. What the second needs is allocated from the arena of
  // `kept` (core/nn/linear.h), recomputed tensors included, if Forward() has not kept it.
  absl::Status BackwardInput(const Context& ctx, const Context& kept, const Tensor& dy, Tensor dx,
                             MlpBlockSaved* saved) const;
  absl::Status BackwardWeight(const Context& ctx, const MlpBlockSaved& saved) const;

 private:
  // Allocates g, the activation's result, for a stream like x.
  Tensor AllocateActivation(const Context& ctx, const Tensor& x) const;
  // Allocates u likewise.
  Tensor AllocateUp(const Context& ctx, const Tensor& x) const;
  bool KeepsActivation(const Tensor& x) const;
  // Computes the activation of u into g.
  absl::Status ActivateUp(const Context& ctx, const Tensor& u, const Tensor& g) const;
  // Computes up and the activation, into saved->up and g.
  absl::Status Activate(const Context& ctx, const Tensor& h, const Tensor& g,
                        MlpBlockSaved* saved) const;
  // Returns the gradient of u from g's, in the memory of one of dg and u; that of u, if it stays.
  absl::StatusOr<Tensor> BackwardActivation(const Context& ctx, bool stays, const Tensor& dg,
                                            const Tensor& u) const;
  // Computes the weight gradients too, where `kept` is null.
  absl::Status RunBackward(const Context& ctx, const Context* kept, const Tensor& dy,
                           const Tensor& dx, MlpBlockSaved* saved) const;
  // Computes x += the branch's output of g, whose own memory is scratch.
  absl::Status AddDown(const Context& ctx, const Tensor& g, const Tensor& x,
                       MlpBlockSaved* saved) const;
  // Recomputes the tensors that Forward() has dropped; those that BackwardWeight() needs in the
  // arena of `kept`.
  absl::Status Recompute(const Context& ctx, const Context& kept, MlpBlockSaved* saved) const;

  ActivationRecompute recompute_;
  ActivationKind activation_;
  bool gated_, parallel_residual_;
  bool adds_to_stream_;  // to attention's output, as nothing keeps down's
  bool fused_;           // the activation is part of the products
  int64_t width_;        // of g, on this rank
  ResidualBranch branch_;
  ColumnParallelLinear up_;
  RowParallelLinear down_;
};

}  // namespace strake

#endif  // STRAKE_MODELS_MLP_BLOCK_H_
