// The check cases of qk_norm and qk_norm_sums.
#ifndef STRAKE_CORE_OPS_QK_NORM_QK_NORM_CHECK_H_
#define STRAKE_CORE_OPS_QK_NORM_QK_NORM_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck QkNormCheck(const OpCall& call);
OpCheck QkNormSumsCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_QK_NORM_QK_NORM_CHECK_H_
