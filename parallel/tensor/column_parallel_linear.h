// ColumnParallelLinear: a linear layer whose output features are sharded over T ranks (C-TP-001).
//
//   rank t holds columns [t*out/T, (t+1)*out/T) of W [in, out], or per segment of a fused W, and of
//   the bias; a vocabulary's are padded. N tokens; R = N, or N/T with sequence parallelism.
//
//                    in               local                        communication
//   Forward          x  [R, in]       y [N, out/T] = x W_t + b_t    SP: all-gather of x before
//   BackwardInput    dy [N, out/T]    dx [N, in] = dy W_t^T         all-reduce (SP: reduce-scatter)
//                                                                  of dx, started, not waited for
//   BackwardWeight   dy [N, out/T]    dW_t += x^T dy, db_t +=       none
//
// dx is [R, in]. BackwardWeight communicates nothing, so it may come at any time later: the x that
// Forward gathered is in `saved`, and dy is of all tokens. For a GELU after it, adapters and
// dtypes, see core/nn/linear.h. Of an adapter, every rank holds A, with a term of its gradient
// (ReplicatedGrad::kPartial), and the rank's columns of B. Source: Shoeybi et al., "Megatron-LM",
// 2019, section 3.
#ifndef STRAKE_PARALLEL_TENSOR_COLUMN_PARALLEL_LINEAR_H_
#define STRAKE_PARALLEL_TENSOR_COLUMN_PARALLEL_LINEAR_H_

#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/pending.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/nn/linear.h"
#include "core/nn/low_rank_adapter.h"
#include "core/tensor/tensor.h"
#include "parallel/mesh/mesh.h"
#include "parallel/tensor/shard.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {

class ColumnParallelLinear {
 public:
  // This rank's parameters, weight [in, out/T] or [out/T, in] if `transposed`; they must outlive
  // the layer. `bias` [out/T] may be null.
  ColumnParallelLinear(Parameter* weight, const Parameter* bias, const TensorParallel& tp,
                       bool transposed = false, WeightOwnership ownership = WeightOwnership::kOwned)
      : linear_(weight, bias, transposed, ownership), tp_(tp), weight_(weight), bias_(bias) {}

  // Makes a layer with parameters of its own: this rank's part of weight [in, out] and bias [out]
  // (undefined: none), sharded along the mesh's tp axis. `segments` are those of a fused weight.
  // InvalidArgument where T does not divide `out` or, of a fused weight, a segment.
  static absl::StatusOr<ColumnParallelLinear> FromFull(
      const Tensor& weight, const Tensor& bias, const Mesh& mesh, bool sequence_parallel = false,
      const std::vector<ShardSegment>& segments = {});

  // The same layer without sequence parallelism: every rank holds every token.
  ColumnParallelLinear WithoutSequenceParallelism() const;

  // Sets the layer's name in records.
  void set_layer(const char* layer) { linear_.set_layer(layer); }

  // Adds an adapter, of the rank's columns.
  void set_adapter(LowRankAdapter adapter) { linear_.set_adapter(std::move(adapter)); }

  // Returns whether BackwardWeight() has gradients to compute.
  bool trained() const { return linear_.trained(); }
  Parameter& weight() const { return *weight_; }
  const Parameter* bias() const { return bias_; }
  // The arena of FromFull()'s parameters; otherwise null.
  const ParameterArena* own_arena() const { return own_arena_.get(); }

  // Allocates outputs from ctx.arena(), except *gelu_input and y where they are defined. With
  // sequence parallelism, x and dx of all tokens are allocated there too. `saved` may be null where
  // no backward pass follows.
  absl::StatusOr<Tensor> Forward(const Context& ctx, const Tensor& x, LinearSaved* saved,
                                 Tensor* gelu_input = nullptr, const Tensor& y = Tensor()) const;
  // Gathers what Forward() leaves in `saved`, where its y has been kept.
  absl::Status GatherInput(const Context& ctx, const Tensor& x, LinearSaved* saved) const;
  // The number of rows of y for rows of x.
  int64_t NumOutputRows(int64_t num_rows) const;
  // dx is in flight until Wait(): compute the weight gradient meanwhile. It is `dx` where that is
  // defined. For `kept`, see core/nn/linear.h.
  Pending<Tensor> BackwardInput(const Context& ctx, const Tensor& dy, LinearSaved* saved,
                                const Context* kept = nullptr, Tensor dx = Tensor()) const;
  // Announces bias, then weight; or the adapter's parameters.
  absl::Status BackwardWeight(const Context& ctx, const Tensor& dy, const LinearSaved& saved) const;

 private:
  Linear linear_;
  TensorParallel tp_;
  Parameter* weight_;
  const Parameter* bias_;
  std::shared_ptr<ParameterArena> own_arena_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_TENSOR_COLUMN_PARALLEL_LINEAR_H_
