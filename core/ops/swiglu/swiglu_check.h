// The check case of swiglu.
#ifndef STRAKE_CORE_OPS_SWIGLU_SWIGLU_CHECK_H_
#define STRAKE_CORE_OPS_SWIGLU_SWIGLU_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck SwigluCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_SWIGLU_SWIGLU_CHECK_H_
