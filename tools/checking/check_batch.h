// The weights and tokens of a check: the same for all numbers of ranks and all dtypes.
#ifndef STRAKE_TOOLS_CHECKING_CHECK_BATCH_H_
#define STRAKE_TOOLS_CHECKING_CHECK_BATCH_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/work_state.h"
#include "core/tensor/tensor_buffer.h"
#include "tools/checking/check_config.h"
#include "train/engine/engine.h"

namespace strake {

// One global batch: tokens and targets [global_batch * seq_len] (i32).
struct StepBatch {
  TensorBuffer tokens, targets;
};

// The first samples of --train_data, or random tokens.
absl::StatusOr<StepBatch> LoadStepBatch(const CheckCommand& command);

// Returns the error of a --init_from without this model's weights, before anything else runs.
absl::Status CheckInitFrom(const CheckCommand& command, const OnWork& on_work = nullptr);

// Sets the weights of --init_from, or random ones; every value is representable in --dtype, also in
// f64. No random parameter has only its usual 0 or 1, which would hide a bias that is dropped or
// added twice.
absl::Status SetCheckWeights(const CheckConfig& config, Engine& engine);

}  // namespace strake

#endif  // STRAKE_TOOLS_CHECKING_CHECK_BATCH_H_
