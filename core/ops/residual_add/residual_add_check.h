// The check case of residual_add.
#ifndef STRAKE_CORE_OPS_RESIDUAL_ADD_RESIDUAL_ADD_CHECK_H_
#define STRAKE_CORE_OPS_RESIDUAL_ADD_RESIDUAL_ADD_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck ResidualAddCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_RESIDUAL_ADD_RESIDUAL_ADD_CHECK_H_
