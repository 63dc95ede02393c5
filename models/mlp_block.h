// MlpBlock: the feed-forward half of a transformer layer, on a pre-norm residual stream.
//
//   N tokens, C hidden size, F intermediate size
//   norm        x [N, C]    -> h [N, C]
//   up          h [N, C]    -> u [N, F] (GPT-2), or [N, 2F] with segments gate, up (Llama)
//   activation  u           -> g [N, F]       GELU (GPT-2) or SwiGLU (Llama)
//   down        g [N, F]    -> o [N, C]
//   residual    y = x + o      [N, C]
//   Backward    dy [N, C] becomes dx in place: the residual's gradient plus the branch's term
#ifndef STRAKE_MODELS_MLP_BLOCK_H_
#define STRAKE_MODELS_MLP_BLOCK_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/nn/linear.h"
#include "core/nn/norm.h"
#include "core/tensor/tensor.h"
#include "models/model_config.h"

namespace strake {

struct MlpBlockSaved {
  NormSaved norm;
  LinearSaved up_linear;
  Tensor up;  // [N, F] or [N, 2F]; the backward pass overwrites it
  LinearSaved down_linear;
};

class MlpBlock {
 public:
  // Adds the parameters of layer `index` to `arena`, in forward order.
  MlpBlock(const ModelConfig& config, int64_t index, ParameterArena* arena);

  // y is allocated from ctx.arena().
  absl::StatusOr<Tensor> Forward(const Context& ctx, const Tensor& x, MlpBlockSaved* saved) const;

  absl::Status Backward(const Context& ctx, const MlpBlockSaved& saved, Tensor dy) const;

 private:
  bool swiglu_;
  Norm norm_;
  Linear up_, down_;
};

}  // namespace strake

#endif  // STRAKE_MODELS_MLP_BLOCK_H_
