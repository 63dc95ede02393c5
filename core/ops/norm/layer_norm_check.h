// The check case of layer_norm.
#ifndef STRAKE_CORE_OPS_NORM_LAYER_NORM_CHECK_H_
#define STRAKE_CORE_OPS_NORM_LAYER_NORM_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck LayerNormCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_NORM_LAYER_NORM_CHECK_H_
