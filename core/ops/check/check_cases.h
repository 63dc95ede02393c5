// The check cases of all ops, by the ops' names.
#ifndef STRAKE_CORE_OPS_CHECK_CHECK_CASES_H_
#define STRAKE_CORE_OPS_CHECK_CHECK_CASES_H_

#include <string>
#include <vector>

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

// Returns whether the call's op has a check case. All ops of a training step have one.
bool HasCheckCase(const OpCall& call);

// Returns the check of a call. CHECKs that its op has a case.
OpCheck CheckCaseOf(const OpCall& call);

// Returns the checks of the ops in `calls`. Calls that differ only in their caller become one
// check, with the number of calls and all their layers. Collectives are left out.
std::vector<OpCheck> ChecksOf(const std::vector<OpCall>& calls);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_CHECK_CHECK_CASES_H_
