// The check case of partial_attention.
#ifndef STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_CHECK_H_
#define STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck PartialAttentionCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_CHECK_H_
