// The check case of causal_attention.
#ifndef STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_CHECK_H_
#define STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck CausalAttentionCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_CHECK_H_
