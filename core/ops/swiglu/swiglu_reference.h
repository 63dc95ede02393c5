// Reference implementation of SwiGLU. See core/ops/swiglu/swiglu.h.
#ifndef STRAKE_CORE_OPS_SWIGLU_SWIGLU_REFERENCE_H_
#define STRAKE_CORE_OPS_SWIGLU_SWIGLU_REFERENCE_H_

#include <cstdint>

#include "core/ops/reference_eigen.h"

namespace strake::reference {

// gate_up has rows of 2 * columns elements, y of `columns`.
template <typename Scalar>
void SwigluForward(const Scalar* gate_up, int64_t rows, int64_t columns, Scalar* y) {
  for (int64_t n = 0; n < rows; ++n) {
    const ConstArray<Scalar> gate(gate_up + n * 2 * columns, columns);
    const ConstArray<Scalar> up(gate_up + n * 2 * columns + columns, columns);
    Array<Scalar>(y + n * columns, columns) = gate / (Scalar(1) + (-gate).exp()) * up;
  }
}

template <typename Scalar>
void SwigluBackward(const Scalar* dy, const Scalar* gate_up, int64_t rows, int64_t columns,
                    Scalar* dgate_up) {
  // Holds both outputs first, because each may overwrite an input of the other.
  Eigen::Array<Scalar, Eigen::Dynamic, 1> sigmoid(columns), dup(columns);
  for (int64_t n = 0; n < rows; ++n) {
    const int64_t at = n * 2 * columns;
    const ConstArray<Scalar> d(dy + n * columns, columns);
    const ConstArray<Scalar> gate(gate_up + at, columns), up(gate_up + at + columns, columns);
    sigmoid = Scalar(1) / (Scalar(1) + (-gate).exp());
    dup = d * (gate * sigmoid);
    Array<Scalar>(dgate_up + at, columns) =
        d * up * (sigmoid * (Scalar(1) + gate * (Scalar(1) - sigmoid)));
    Array<Scalar>(dgate_up + at + columns, columns) = dup;
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_SWIGLU_SWIGLU_REFERENCE_H_
