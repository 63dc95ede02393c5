// A gated activation on the two halves of a fused projection: SwiGLU, GeGLU, ReGLU.
//
//   y[n,f] = act(gate[n,f]) * up[n,f],   act of core/ops/activation/activation_kind.h
//
// gate_up [N, 2F] holds gate in columns [0, F) and up in [F, 2F). dtypes: f32; bf16; f64 and c128
// on the reference path. All tensors share one dtype.
// Source: Shazeer, "GLU Variants Improve Transformer", 2020, section 2.
#ifndef STRAKE_CORE_OPS_GATED_ACTIVATION_GATED_ACTIVATION_H_
#define STRAKE_CORE_OPS_GATED_ACTIVATION_GATED_ACTIVATION_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/ops/activation/activation_kind.h"
#include "core/tensor/tensor.h"

namespace strake {

// The op's name in records: "geglu", "geglu_erf", "swiglu" or "reglu".
const char* GatedActivationName(ActivationKind kind);

// y = [N, F], from gate_up [N, 2F].
absl::Status GatedActivationForward(const Context& ctx, ActivationKind kind, const Tensor& gate_up,
                                    Tensor y);

// dgate_up = [N, 2F], from dy [N, F] and gate_up [N, 2F]. dgate_up may be gate_up.
//   dgate = dy * up * act'(gate),  dup = dy * act(gate)
absl::Status GatedActivationBackward(const Context& ctx, ActivationKind kind, const Tensor& dy,
                                     const Tensor& gate_up, Tensor dgate_up);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_GATED_ACTIVATION_GATED_ACTIVATION_H_
