// The check case of sum.
#ifndef STRAKE_CORE_OPS_SUM_SUM_CHECK_H_
#define STRAKE_CORE_OPS_SUM_SUM_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck SumCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_SUM_SUM_CHECK_H_
