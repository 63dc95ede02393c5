// RowParallelLinear: a linear layer whose input features are sharded over T ranks (C-TP-001).
//
//   rank t holds rows [t*in/T, (t+1)*in/T) of W [in, out], and all of the bias, which is added
//   once: after the sum, on every rank. N tokens; R = N, or N/T with sequence parallelism.
//
//                    in              local                         communication
//   Forward          x  [N, in/T]    y [R, out] = sum(x W_t) + b    all-reduce (SP: reduce-scatter)
//   BackwardInput    dy [R, out]     dx [N, in/T] = dy W_t^T        SP: all-gather of dy before
//   BackwardWeight   dy [R, out]     dW_t += x^T dy, db +=          none
//
// BackwardWeight communicates nothing, so it may come at any time later: BackwardInput keeps the dy
// of all tokens, gathered or copied, in the arena of `kept` (core/nn/linear.h).
//
// With sequence parallelism db has the terms of the rank's own tokens: its parameter is declared
// ReplicatedGrad::kPartial. One rank has nothing to sum, and adds the bias within the product. For
// a GELU before it, adapters and dtypes, see core/nn/linear.h. Of an adapter, a rank holds its rows
// of A, and B, with a term of its gradient; its part of x A B joins the sum.
// Source: Shoeybi et al., "Megatron-LM", 2019, section 3.
#ifndef STRAKE_PARALLEL_TENSOR_ROW_PARALLEL_LINEAR_H_
#define STRAKE_PARALLEL_TENSOR_ROW_PARALLEL_LINEAR_H_

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/pending.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/nn/linear.h"
#include "core/nn/low_rank_adapter.h"
#include "core/tensor/tensor.h"
#include "parallel/mesh/mesh.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {

struct RowParallelLinearSaved {
  LinearSaved linear;  // x [N, in/T]
  Tensor dy;           // [N, out], of all tokens; BackwardInput leaves it to BackwardWeight
};

class RowParallelLinear {
 public:
  // This rank's weight [in/T, out] and the whole bias [out], which may be null; they must outlive
  // the layer.
  RowParallelLinear(Parameter* weight, const Parameter* bias, const TensorParallel& tp);

  // Makes a layer with parameters of its own: this rank's part of weight [in, out], sharded along
  // the mesh's tp axis, and bias [out] (undefined: none). InvalidArgument where T does not divide
  // `in`.
  static absl::StatusOr<RowParallelLinear> FromFull(const Tensor& weight, const Tensor& bias,
                                                    const Mesh& mesh,
                                                    bool sequence_parallel = false);

  // The same layer without sequence parallelism: every rank holds every token.
  RowParallelLinear WithoutSequenceParallelism() const;

  // Sets the layer's name in records.
  void set_layer(const char* layer) { linear_.set_layer(layer); }

  // Adds an adapter, of the rank's rows.
  void set_adapter(LowRankAdapter adapter) { linear_.set_adapter(std::move(adapter)); }

  Parameter& weight() const { return *weight_; }
  const Parameter* bias() const { return bias_; }
  // The arena of FromFull()'s parameters; otherwise null.
  const ParameterArena* own_arena() const { return own_arena_.get(); }

  // Allocates outputs from ctx.arena(), except y where it is defined. With sequence parallelism
  // saved->dy is allocated too; without, it is dy itself. `saved` may be null where no backward
  // pass follows.
  absl::StatusOr<Tensor> Forward(const Context& ctx, const Tensor& x, RowParallelLinearSaved* saved,
                                 Tensor y = Tensor()) const;
  Pending<Tensor> BackwardInput(const Context& ctx, const Tensor& dy, RowParallelLinearSaved* saved,
                                const Tensor& gelu_input = Tensor(), const Context* kept = nullptr,
                                Tensor dx = Tensor()) const;
  // Call it after BackwardInput has succeeded, with the same dy. Announces bias, then weight;
  // or the adapter's parameters.
  absl::Status BackwardWeight(const Context& ctx, const Tensor& dy,
                              const RowParallelLinearSaved& saved) const;
  // The same from the dy that BackwardInput has kept.
  absl::Status BackwardWeight(const Context& ctx, const RowParallelLinearSaved& saved) const;

 private:
  // Returns dy of all tokens, in the arena of `kept`.
  absl::StatusOr<Tensor> Keep(const Context& kept, const Tensor& dy) const;

  Linear linear_;  // without the bias, where that is added after a sum
  TensorParallel tp_;
  Parameter* weight_;
  const Parameter* bias_;
  bool bias_follows_sum_;
  std::shared_ptr<ParameterArena> own_arena_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_TENSOR_ROW_PARALLEL_LINEAR_H_
