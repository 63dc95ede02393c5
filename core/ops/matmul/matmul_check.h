// The check case of matmul.
#ifndef STRAKE_CORE_OPS_MATMUL_MATMUL_CHECK_H_
#define STRAKE_CORE_OPS_MATMUL_MATMUL_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck MatmulCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_MATMUL_MATMUL_CHECK_H_
