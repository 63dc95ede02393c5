// The weights and tokens of a check: the same on any ranks and in any dtype.
#ifndef STRAKE_TOOLS_CHECKING_CHECK_BATCH_H_
#define STRAKE_TOOLS_CHECKING_CHECK_BATCH_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
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

// The error of a --init_from that does not hold this model's weights: before anything else runs.
absl::Status CheckInitFrom(const CheckCommand& command);

// Those of --init_from, or random ones; every value is one of --dtype, in f64 too. No random
// parameter has only its usual 0 or 1, where a bias that is dropped, or added twice, would not
// show.
absl::Status SetCheckWeights(const CheckConfig& config, Engine& engine);

}  // namespace strake

#endif  // STRAKE_TOOLS_CHECKING_CHECK_BATCH_H_
