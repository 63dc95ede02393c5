// ResidualBranch: how a half f of a layer, attention or MLP, stands on the residual stream x.
//
//   NormPlace          the stream after the half
//   kBefore            x + s f(norm(x))
//   kAfter             x + s norm'(f(x))
//   kBeforeAndAfter    x + s norm'(f(norm(x)))
//
//   R tokens of this rank, C hidden size, s the residual scale
//   Input              x [R, C] += residual -> h [R, C], the input of f
//   Output             o [R, C], f's output -> s norm'(o), with x as its residual
//   BackwardOutput     dy [R, C], the gradient of the stream -> do [R, C]
//   BackwardInput      dh [R, C], the gradient of h -> dx [R, C] += its term of the gradient of x
//
// The last two compute the norms' weight gradients too, or with a context `kept`
// (core/nn/linear.h) leave them to BackwardOutputWeight and BackwardInputWeight. Without norm' and
// s, Output and BackwardOutput return what they get. Sources: Xiong et al., "On Layer Normalization
// in the Transformer Architecture", 2020, section 3 (kBefore); Team OLMo, "2 OLMo 2 Furious", 2025,
// section 3 (kAfter); Ding et al., "CogView", 2021, which calls it a sandwich (kBeforeAndAfter).
#ifndef STRAKE_MODELS_RESIDUAL_BRANCH_H_
#define STRAKE_MODELS_RESIDUAL_BRANCH_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/nn/norm.h"
#include "core/tensor/tensor.h"
#include "models/model_config.h"
#include "models/residual_stream.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {

struct ResidualBranchSaved {
  NormSaved norm;       // its x is the stream, whether there is a norm before or not
  NormSaved post_norm;  // undefined without a norm after
};

class ResidualBranch {
 public:
  // Adds the norm before, if any. `name` is its name in files, `layer` in records.
  ResidualBranch(const ModelConfig& config, const TensorParallel& tp, ParameterArena* arena,
                 const char* name, int64_t index, const char* layer);
  // Adds the norm after, if any: call it once the half's other parameters have been added.
  void AddPostNorm(const ModelConfig& config, const TensorParallel& tp, ParameterArena* arena,
                   const char* name, int64_t index, const char* layer);

  absl::StatusOr<Tensor> Input(const Context& ctx, const ResidualStream& stream,
                               ResidualBranchSaved* saved) const;
  // Allocates its result, and what is kept for the backward pass, from ctx.arena().
  absl::StatusOr<ResidualStream> Output(const Context& ctx, const Tensor& o,
                                        ResidualBranchSaved* saved) const;

  absl::StatusOr<Tensor> BackwardOutput(const Context& ctx, const Context* kept, const Tensor& dy,
                                        ResidualBranchSaved* saved) const;
  // dh is AllocateInputGradient()'s where there is a `kept` and that is defined.
  absl::Status BackwardInput(const Context& ctx, const Context* kept, const Tensor& dh,
                             const Tensor& dx, ResidualBranchSaved* saved) const;
  // Returns a dh like dx for BackwardInputWeight to read; undefined where it reads none.
  Tensor AllocateInputGradient(const Context* kept, const Tensor& dx) const;

  absl::Status BackwardOutputWeight(const Context& ctx, const ResidualBranchSaved& saved) const;
  absl::Status BackwardInputWeight(const Context& ctx, const ResidualBranchSaved& saved) const;

 private:
  double scale_;
  std::optional<Norm> norm_, post_norm_;
};

}  // namespace strake

#endif  // STRAKE_MODELS_RESIDUAL_BRANCH_H_
