// SwiGLU: a gated activation on the two halves of a fused projection.
//
//   y[n,f] = silu(gate[n,f]) * up[n,f],   silu(g) = g / (1 + exp(-g))
//
// gate_up [N, 2F] holds gate in columns [0, F) and up in [F, 2F). dtypes: f32; bf16; f64 and c128
// on the reference path. All tensors share one dtype.
// Source: Shazeer, "GLU Variants Improve Transformer", 2020, section 2.
#ifndef STRAKE_CORE_OPS_SWIGLU_SWIGLU_H_
#define STRAKE_CORE_OPS_SWIGLU_SWIGLU_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// y = [N, F], from gate_up [N, 2F].
absl::Status SwigluForward(const Context& ctx, const Tensor& gate_up, Tensor y);

// dgate_up = [N, 2F], from dy [N, F] and gate_up [N, 2F]. dgate_up may be gate_up.
//   dgate = dy * up * s * (1 + gate * (1 - s)),  dup = dy * gate * s,  s = 1 / (1 + exp(-gate))
absl::Status SwigluBackward(const Context& ctx, const Tensor& dy, const Tensor& gate_up,
                            Tensor dgate_up);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_SWIGLU_SWIGLU_H_
