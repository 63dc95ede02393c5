// Reference implementation of a multiplication by a number. See core/ops/scale/scale.h.
#ifndef STRAKE_CORE_OPS_SCALE_SCALE_REFERENCE_H_
#define STRAKE_CORE_OPS_SCALE_SCALE_REFERENCE_H_

#include <cstdint>

#include "core/ops/reference_eigen.h"

namespace strake::reference {

template <typename Scalar>
void Scale(double factor, const Scalar* x, int64_t size, Scalar* y) {
  Array<Scalar>(y, size) = ConstArray<Scalar>(x, size) * Scalar(factor);
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_SCALE_SCALE_REFERENCE_H_
