// The check cases of activation, one per kind.
#ifndef STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_CHECK_H_
#define STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/activation/activation_kind.h"
#include "core/ops/check/op_check.h"

namespace strake {

template <ActivationKind kKind>
OpCheck ActivationCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_CHECK_H_
