// The check case of rope.
#ifndef STRAKE_CORE_OPS_ROPE_ROPE_CHECK_H_
#define STRAKE_CORE_OPS_ROPE_ROPE_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck RopeCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ROPE_ROPE_CHECK_H_
