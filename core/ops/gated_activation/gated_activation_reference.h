// Reference implementation of gated activations. See
// core/ops/gated_activation/gated_activation.h.
#ifndef STRAKE_CORE_OPS_GATED_ACTIVATION_GATED_ACTIVATION_REFERENCE_H_
#define STRAKE_CORE_OPS_GATED_ACTIVATION_GATED_ACTIVATION_REFERENCE_H_

#include <cstdint>

#include "core/ops/activation/activation_kind.h"
#include "core/ops/activation/activation_reference.h"

namespace strake::reference {

// gate_up has rows of 2 * columns elements, y of `columns`.
template <typename Scalar>
void GatedActivationForward(ActivationKind kind, const Scalar* gate_up, int64_t rows,
                            int64_t columns, Scalar* y) {
  DispatchActivation(kind, [&]<ActivationKind kKind>() {
    for (int64_t n = 0; n < rows; ++n) {
      const Scalar *const gate = gate_up + n * 2 * columns, *const up = gate + columns;
      for (int64_t f = 0; f < columns; ++f) {
        y[n * columns + f] = Activate<kKind>(gate[f]).value * up[f];
      }
    }
  });
}

template <typename Scalar>
void GatedActivationBackward(ActivationKind kind, const Scalar* dy, const Scalar* gate_up,
                             int64_t rows, int64_t columns, Scalar* dgate_up) {
  DispatchActivation(kind, [&]<ActivationKind kKind>() {
    for (int64_t n = 0; n < rows; ++n) {
      const Scalar *const gate = gate_up + n * 2 * columns, *const up = gate + columns;
      Scalar *const dgate = dgate_up + n * 2 * columns, *const dup = dgate + columns;
      for (int64_t f = 0; f < columns; ++f) {
        const Scalar d = dy[n * columns + f], d_up = d * up[f];
        const ValueAndSlope<Scalar> act = Activate<kKind>(gate[f]);
        dgate[f] = d_up * act.slope;
        dup[f] = d * act.value;
      }
    }
  });
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_GATED_ACTIVATION_GATED_ACTIVATION_REFERENCE_H_
