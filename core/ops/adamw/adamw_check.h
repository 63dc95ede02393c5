// The check case of adamw.
#ifndef STRAKE_CORE_OPS_ADAMW_ADAMW_CHECK_H_
#define STRAKE_CORE_OPS_ADAMW_ADAMW_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck AdamWCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ADAMW_ADAMW_CHECK_H_
