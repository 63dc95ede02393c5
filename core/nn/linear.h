// Linear: a matrix product and a bias, the simplest layer with the three passes.
//
//   x      [N, in]
//   weight [in, out], or [out, in] when `transposed`; W below is [in, out] in both cases
//   bias   [out], or none
//
//   Forward         y  [N, out]  = x W + bias
//   BackwardInput   dx [N, in]   = dy W^T
//   BackwardWeight  dW [in, out] += x^T dy,  dbias [out] += sum of dy over rows
//
// dtypes: f32; f64 and c128 on the reference path. All tensors share one.
#ifndef STRAKE_CORE_NN_LINEAR_H_
#define STRAKE_CORE_NN_LINEAR_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/pending.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor.h"

namespace strake {

// What the backward passes need of one micro-batch's forward pass.
struct LinearSaved {
  Tensor x;  // [N, in]: the input itself, not a copy
};

// Does this layer tell when its weight's gradient is complete? Not where an embedding shares the
// weight (`kShared`): the embedding's backward pass comes later, adds the last terms, and tells.
enum class WeightOwnership { kOwned, kShared };

// Outputs are allocated from ctx.arena(). Wrong shapes are CHECK failures.
class Linear {
 public:
  // The parameters must outlive the layer; `bias` may be null.
  Linear(const Parameter* weight, const Parameter* bias, bool transposed = false,
         WeightOwnership ownership = WeightOwnership::kOwned);

  int64_t in_features() const;
  int64_t out_features() const;

  // `saved` may be null where no backward pass follows.
  absl::StatusOr<Tensor> Forward(const Context& ctx, const Tensor& x, LinearSaved* saved) const;

  Pending<Tensor> BackwardInput(const Context& ctx, const Tensor& dy,
                                const LinearSaved& saved) const;

  // Adds to the parameters' gradients, and announces each with ctx.GradReady(): bias, then weight.
  absl::Status BackwardWeight(const Context& ctx, const Tensor& dy, const LinearSaved& saved) const;

 private:
  const Parameter* weight_;
  const Parameter* bias_;
  bool transposed_;
  WeightOwnership ownership_;
};

}  // namespace strake

#endif  // STRAKE_CORE_NN_LINEAR_H_
