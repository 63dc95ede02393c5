// The check case of softcap.
#ifndef STRAKE_CORE_OPS_SOFTCAP_SOFTCAP_CHECK_H_
#define STRAKE_CORE_OPS_SOFTCAP_SOFTCAP_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck SoftcapCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_SOFTCAP_SOFTCAP_CHECK_H_
