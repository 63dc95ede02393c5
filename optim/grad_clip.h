// Clips gradients by their global norm.
//
//   norm  = s sqrt(sum over ranks and their owned elements of grads[i]^2)
//   scale = s min(1, clip_norm / (norm + 1e-6)),  s with clip_norm 0
//
// s is grad_scale, in memory: the gradients count times s.
//
// grads: parts of the index space of `parameters`, which begin at multiples of 64 and whose gaps
// are zero; f32, or f64 on the reference path. A rank counts the elements whose segment it owns
// (slice.owner), so that elements on several ranks count once. Squares are summed in double within
// units of 64 elements, and units are added exactly (core/ops/squared_norm/squared_norm.h). So bits
// depend on each parameter's gradient on its rank, and not on how the index space is cut into
// parts, in which order parameters are in it, and which ranks have the parts. This op scales
// nothing: AdamWUpdate() takes `clip`, which saves a pass over memory. All on the context's device;
// on a GPU nothing waits for the host. Source: Pascanu, Mikolov, Bengio, "On the difficulty of
// training Recurrent Neural Networks", 2013, algorithm 1, with the epsilon of
// torch.nn.utils.clip_grad_norm_.
#ifndef STRAKE_OPTIM_GRAD_CLIP_H_
#define STRAKE_OPTIM_GRAD_CLIP_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"

namespace strake {

// `groups` join the ranks that own different gradients: those of tensor parallelism, and those of
// data parallelism where each has its own parts. The sum of squares is all-reduced over one group
// after the other. A group of one rank is skipped, and so is, in a dry run, a group that is not
// made for dry runs. Scratch comes from ctx.arena(). grad_scale = [1] f64, or undefined for 1.
// clip = [2] f64, {norm, scale}: scale is NaN where the norm is, and 0 where it is infinite
// (core/ops/clip_scale/clip_scale.h). Returns a reduction's error.
absl::Status ClipGradNorm(const Context& ctx, const ParameterArena& parameters,
                          const std::vector<ArenaPart>& grads, double clip_norm,
                          absl::Span<Communicator* const> groups, Tensor clip,
                          const Tensor& grad_scale = {});

}  // namespace strake

#endif  // STRAKE_OPTIM_GRAD_CLIP_H_
