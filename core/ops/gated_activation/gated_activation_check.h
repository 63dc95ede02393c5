// The check cases of gated_activation, one per kind.
#ifndef STRAKE_CORE_OPS_GATED_ACTIVATION_GATED_ACTIVATION_CHECK_H_
#define STRAKE_CORE_OPS_GATED_ACTIVATION_GATED_ACTIVATION_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/activation/activation_kind.h"
#include "core/ops/check/op_check.h"

namespace strake {

template <ActivationKind kKind>
OpCheck GatedActivationCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_GATED_ACTIVATION_GATED_ACTIVATION_CHECK_H_
