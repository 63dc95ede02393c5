// The ops of a model's training step, on the shapes of a rank of a layout, as a record of the step
// has them.
#ifndef STRAKE_TOOLS_CHECKING_CHECK_MODEL_OPS_H_
#define STRAKE_TOOLS_CHECKING_CHECK_MODEL_OPS_H_

#include <vector>

#include "core/ops/check/op_check.h"
#include "tools/checking/check_config.h"

namespace strake {

// In execution order, each op at each shape once, at its first call. Ops of the first
// tensor-parallel rank, whose calls are counted, come first. Then come the calls of the last rank
// that differ, since it has the vocabulary's padding.
std::vector<OpCheck> ModelOps(const CheckCommand& command);

}  // namespace strake

#endif  // STRAKE_TOOLS_CHECKING_CHECK_MODEL_OPS_H_
