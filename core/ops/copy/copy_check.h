// The check cases of copy, copy_rows and set_zero.
#ifndef STRAKE_CORE_OPS_COPY_COPY_CHECK_H_
#define STRAKE_CORE_OPS_COPY_COPY_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck CopyCheck(const OpCall& call);
OpCheck CopyRowsCheck(const OpCall& call);
OpCheck SetZeroCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_COPY_COPY_CHECK_H_
