// The check cases of all ops, by the ops' names.
#ifndef STRAKE_CORE_OPS_CHECK_CHECK_CASES_H_
#define STRAKE_CORE_OPS_CHECK_CHECK_CASES_H_

#include <string>
#include <vector>

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

// Whether the call's op has a case. Those of a training step have.
bool HasCheckCase(const OpCall& call);

// The check of a call. CHECKs that its op has a case.
OpCheck CheckCaseOf(const OpCall& call);

// The checks of the ops in `calls`: one for each call that differs from those before it in more
// than who makes it, with their number and all their layers. Collectives are left out.
std::vector<OpCheck> ChecksOf(const std::vector<OpCall>& calls);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_CHECK_CHECK_CASES_H_
