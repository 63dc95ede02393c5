// The ops of a training step of a model, on the shapes that a rank of a layout gives them.
//
// To add an op to a model, add it here where it runs: tests/check_fault_test.cc counts the calls of
// a step against this table.
#ifndef STRAKE_TOOLS_CHECKING_CHECK_MODEL_OPS_H_
#define STRAKE_TOOLS_CHECKING_CHECK_MODEL_OPS_H_

#include <vector>

#include "core/tensor/tensor.h"
#include "tools/checking/check_op.h"
#include "train/engine/engine_options.h"

namespace strake {

// In execution order, each op at each shape once, where it runs first. Of tensor-parallel ranks the
// first and the last, which has the vocabulary's padding. `tokens` and `targets` [micro_batch *
// seq_len] (i32) are read when the ops run.
std::vector<OpCheck> ModelOps(const EngineOptions& options, int tp, const Tensor& tokens,
                              const Tensor& targets);

}  // namespace strake

#endif  // STRAKE_TOOLS_CHECKING_CHECK_MODEL_OPS_H_
