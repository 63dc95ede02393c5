// The factor that scales gradients, and clips them by the norm that they then have.
//
//   clip[0] = s sqrt(sum)                                 the norm
//   clip[1] = s min(1, clip_norm / (clip[0] + 1e-6))      s with clip_norm 0
//
// The scale s > 0 is in memory, so that the same work serves steps of different scales: a mean over
// the targets of a batch, whose number differs from batch to batch.
// A NaN norm makes the factor NaN, and an infinite one makes it 0, unless clip_norm is 0. The sum
// is an exact one (core/base/exact_sum.h), rounded once to f64; all else is f64. Source: Pascanu,
// Mikolov, Bengio, "On the difficulty of training Recurrent Neural Networks", 2013, algorithm 1,
// with the epsilon of torch.nn.utils.clip_grad_norm_.
#ifndef STRAKE_CORE_OPS_CLIP_SCALE_CLIP_SCALE_H_
#define STRAKE_CORE_OPS_CLIP_SCALE_CLIP_SCALE_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// clip = [2], from the sum of squares `sum` [kExactSumLimbs] i64, which may hold carries, and the
// scale [1] (undefined: 1). CHECKs clip_norm >= 0.
absl::Status ClipScale(const Context& ctx, const Tensor& sum, double clip_norm, Tensor clip,
                       const Tensor& grad_scale = {});

}  // namespace strake

#endif  // STRAKE_CORE_OPS_CLIP_SCALE_CLIP_SCALE_H_
