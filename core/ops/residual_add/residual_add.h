// Residual connection.
//
//   y = x + residual
//
// Elementwise on equal shapes. dtypes: f32; bf16; f64 and c128 on the reference path. All
// tensors share one dtype.
#ifndef STRAKE_CORE_OPS_RESIDUAL_ADD_RESIDUAL_ADD_H_
#define STRAKE_CORE_OPS_RESIDUAL_ADD_RESIDUAL_ADD_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// y = x + residual. y may be either. There is no backward op, because the gradient of both inputs
// is dy itself: blocks keep one gradient of the residual stream and add their branch's term to it.
absl::Status ResidualAddForward(const Context& ctx, const Tensor& x, const Tensor& residual,
                                Tensor y);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_RESIDUAL_ADD_RESIDUAL_ADD_H_
