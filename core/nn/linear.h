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
// A GELU between two layers, x = gelu(u) for the second layer, is fused into their products:
//
//   Forward         of the first with `gelu_input`:  y = gelu(u), and *gelu_input = u = x W + bias
//   BackwardInput   of the second with that u:       du = (dy W^T) gelu'(u) instead of dx
//
// du is then the `dy` of the first layer. The other passes are not affected.
//
// BackwardWeight may come much later, when ctx.arena() has been used for other things: pass
// BackwardInput a context `kept`, which is `ctx` with another arena. What BackwardWeight needs is
// then allocated there. x and dy are the caller's to keep.
//
// With an adapter, y and dx have its term, and BackwardWeight computes its gradients
// (low_rank_adapter.h). A GELU then follows the product. Frozen parameters have no gradients.
//
// dtypes: f32; bf16, with gradients of the parameters in f32; f64 and c128 on the reference path.
// All tensors but those gradients share one dtype.
#ifndef STRAKE_CORE_NN_LINEAR_H_
#define STRAKE_CORE_NN_LINEAR_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/pending.h"
#include "core/device/context.h"
#include "core/memory/parameter.h"
#include "core/nn/low_rank_adapter.h"
#include "core/tensor/tensor.h"

namespace strake {

// Saves from one micro-batch's forward pass what the backward passes need.
struct LinearSaved {
  Tensor x;  // [N, in]: the input itself, not a copy
  LowRankAdapterSaved adapter = {};
};

// Selects whether this layer calls GradReady() for its weight. It does not if an embedding shares
// the weight (`kShared`): the embedding's backward pass comes later, adds the last terms, and calls
// GradReady().
enum class WeightOwnership { kOwned, kShared };

// Outputs are allocated from ctx.arena(), except y, u and dx if the caller passes them. Wrong
// shapes are CHECK failures.
class Linear {
 public:
  // The parameters must outlive the layer; `bias` may be null.
  Linear(Parameter* weight, const Parameter* bias, bool transposed = false,
         WeightOwnership ownership = WeightOwnership::kOwned);

  // Sets the layer's name in records; null (the default) keeps the name of its user.
  void set_layer(const char* layer) { layer_ = layer; }
  const char* layer() const { return layer_; }

  // Adds an adapter to the layer.
  void set_adapter(LowRankAdapter adapter);

  int64_t in_features() const;
  int64_t out_features() const;
  // Returns whether BackwardWeight() has gradients to compute.
  bool trained() const { return adapter_.has_value() || !weight_->frozen; }

  // `saved` may be null if no backward pass follows. u and the result are written to *gelu_input
  // and y; if these are undefined, they are allocated.
  absl::StatusOr<Tensor> Forward(const Context& ctx, const Tensor& x, LinearSaved* saved,
                                 Tensor* gelu_input = nullptr, Tensor y = Tensor()) const;

  Pending<Tensor> BackwardInput(const Context& ctx, const Tensor& dy, LinearSaved* saved,
                                const Tensor& gelu_input = Tensor(), const Context* kept = nullptr,
                                Tensor dx = Tensor()) const;

  // Adds to the parameters' gradients, and calls ctx.GradReady() for each: bias, then weight, or
  // those of the adapter. Call it after BackwardInput(), which leaves a tensor to the adapter.
  absl::Status BackwardWeight(const Context& ctx, const Tensor& dy, const LinearSaved& saved) const;

 private:
  Parameter* weight_;
  const Parameter* bias_;
  bool transposed_;
  WeightOwnership ownership_;
  std::optional<LowRankAdapter> adapter_;
  const char* layer_ = nullptr;
};

}  // namespace strake

#endif  // STRAKE_CORE_NN_LINEAR_H_
