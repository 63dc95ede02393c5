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
// A GELU between two layers, x = gelu(u) for the second, is part of their products:
//
//   Forward         of the first with `gelu_input`:  y = gelu(u), and *gelu_input = u = x W + bias
//   BackwardInput   of the second with that u:       du = (dy W^T) gelu'(u) in place of dx
//
// and du is the `dy` of the first. The other passes know nothing of it.
//
// dtypes: f32; bf16, with gradients of the parameters in f32; f64 and c128 on the reference
// path. All tensors but those gradients share one.
#ifndef STRAKE_CORE_NN_LINEAR_H_
#define STRAKE_CORE_NN_LINEAR_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/pending.h"
#include "core/device/context.h"
#include "core/memory/parameter.h"
#include "core/tensor/tensor.h"

namespace strake {

// What the backward passes need of one micro-batch's forward pass.
struct LinearSaved {
  Tensor x;  // [N, in]: the input itself, not a copy
};

// Does this layer tell when its weight's gradient is complete? Not where an embedding shares the
// weight (`kShared`): the embedding's backward pass comes later, adds the last terms, and tells.
enum class WeightOwnership { kOwned, kShared };

// Outputs are allocated from ctx.arena(), but for y and u where the caller has. Wrong shapes are
// CHECK failures.
class Linear {
 public:
  // The parameters must outlive the layer; `bias` may be null.
  Linear(Parameter* weight, const Parameter* bias, bool transposed = false,
         WeightOwnership ownership = WeightOwnership::kOwned);

  // What records call the layer; null, as at first: what they call its user.
  void set_layer(const char* layer) { layer_ = layer; }
  const char* layer() const { return layer_; }

  int64_t in_features() const;
  int64_t out_features() const;

  // `saved` may be null where no backward pass follows. *gelu_input and y are where u and the
  // result go; undefined: they are allocated.
  absl::StatusOr<Tensor> Forward(const Context& ctx, const Tensor& x, LinearSaved* saved,
                                 Tensor* gelu_input = nullptr, Tensor y = Tensor()) const;

  Pending<Tensor> BackwardInput(const Context& ctx, const Tensor& dy, const LinearSaved& saved,
                                const Tensor& gelu_input = Tensor()) const;

  // Adds to the parameters' gradients, and announces each with ctx.GradReady(): bias, then weight.
  absl::Status BackwardWeight(const Context& ctx, const Tensor& dy, const LinearSaved& saved) const;

 private:
  Parameter* weight_;
  const Parameter* bias_;
  bool transposed_;
  WeightOwnership ownership_;
  const char* layer_ = nullptr;
};

}  // namespace strake

#endif  // STRAKE_CORE_NN_LINEAR_H_
