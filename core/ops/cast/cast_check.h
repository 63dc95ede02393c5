// The check case of cast.
#ifndef STRAKE_CORE_OPS_CAST_CAST_CHECK_H_
#define STRAKE_CORE_OPS_CAST_CAST_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck CastCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_CAST_CAST_CHECK_H_
