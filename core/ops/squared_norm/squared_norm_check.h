// The check case of squared_norm.
#ifndef STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_CHECK_H_
#define STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck SquaredNormCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_CHECK_H_
