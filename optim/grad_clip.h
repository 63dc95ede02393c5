// Clipping of gradients by their global norm.
//
//   norm  = sqrt(sum over ranks and elements of grads[i]^2)
//   scale = min(1, clip_norm / (norm + 1e-6)),  1 with clip_norm 0
//
// grads = [num_elements], a parameter arena's, whose gaps are zero; f32, or f64 on the reference
// path. Nothing is scaled here: `scale` is for AdamWStep::grad_scale, which saves a pass over
// memory. Source: Pascanu, Mikolov, Bengio, "On the difficulty of training Recurrent Neural
// Networks", 2013, algorithm 1, with the epsilon of torch.nn.utils.clip_grad_norm_.
#ifndef STRAKE_OPTIM_GRAD_CLIP_H_
#define STRAKE_OPTIM_GRAD_CLIP_H_

#include "absl/status/statusor.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"

namespace strake {

struct GradClip {
  double norm = 0;   // before clipping
  double scale = 1;  // NaN where the norm is, 0 where it is infinite
};

// `communicator` joins the ranks that hold different parts of the gradients. Returns an error where
// the reduction does.
absl::StatusOr<GradClip> ClipGradNorm(const Context& ctx, const Tensor& grads, double clip_norm,
                                      Communicator& communicator);

}  // namespace strake

#endif  // STRAKE_OPTIM_GRAD_CLIP_H_
