// The ops of a training step of a model, on the shapes that a rank of a layout gives them: those
// that a record of the step has.
#ifndef STRAKE_TOOLS_CHECKING_CHECK_MODEL_OPS_H_
#define STRAKE_TOOLS_CHECKING_CHECK_MODEL_OPS_H_

#include <vector>

#include "core/ops/check/op_check.h"
#include "tools/checking/check_config.h"

namespace strake {

// In execution order, each op at each shape once, where it runs first. Of tensor-parallel ranks the
// first, whose calls are counted, and then what the last, which has the vocabulary's padding, calls
// differently.
std::vector<OpCheck> ModelOps(const CheckCommand& command);

}  // namespace strake

#endif  // STRAKE_TOOLS_CHECKING_CHECK_MODEL_OPS_H_
