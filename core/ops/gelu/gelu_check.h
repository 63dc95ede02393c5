// The check case of gelu.
#ifndef STRAKE_CORE_OPS_GELU_GELU_CHECK_H_
#define STRAKE_CORE_OPS_GELU_GELU_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck GeluCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_GELU_GELU_CHECK_H_
