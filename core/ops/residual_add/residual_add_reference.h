// Reference implementation of the residual connection. See core/ops/residual_add/residual_add.h.
#ifndef STRAKE_CORE_OPS_RESIDUAL_ADD_RESIDUAL_ADD_REFERENCE_H_
#define STRAKE_CORE_OPS_RESIDUAL_ADD_RESIDUAL_ADD_REFERENCE_H_

#include <cstdint>

#include "core/ops/reference_eigen.h"

namespace strake::reference {

template <typename Scalar>
void ResidualAddForward(const Scalar* x, const Scalar* residual, int64_t size, Scalar* y) {
  Array<Scalar>(y, size) = ConstArray<Scalar>(x, size) + ConstArray<Scalar>(residual, size);
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_RESIDUAL_ADD_RESIDUAL_ADD_REFERENCE_H_
