// Reference implementation of soft caps. See core/ops/softcap/softcap.h.
#ifndef STRAKE_CORE_OPS_SOFTCAP_SOFTCAP_REFERENCE_H_
#define STRAKE_CORE_OPS_SOFTCAP_SOFTCAP_REFERENCE_H_

#include <cstdint>

#include "core/ops/reference_eigen.h"

namespace strake::reference {

template <typename Scalar>
void Softcap(double cap, const Scalar* x, int64_t size, Scalar* y) {
  Array<Scalar>(y, size) = (ConstArray<Scalar>(x, size) / Scalar(cap)).tanh() * Scalar(cap);
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_SOFTCAP_SOFTCAP_REFERENCE_H_
