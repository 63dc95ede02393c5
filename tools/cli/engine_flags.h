// Applies the flags that programs share to a rank's engine and to this machine's memory.
#ifndef STRAKE_TOOLS_CLI_ENGINE_FLAGS_H_
#define STRAKE_TOOLS_CLI_ENGINE_FLAGS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "models/model_config.h"
#include "tools/cli/layout.h"
#include "tools/cli/machine.h"
#include "train/engine/engine_options.h"

namespace strake {

// `seq_len` and `micro_batch` are those of EngineOptions, `num_micro_batches` that of a step and
// data-parallel rank. CHECKs CheckStages().
EngineOptions EngineOptionsOf(const ModelConfig& model, int64_t seq_len, int64_t micro_batch,
                              int64_t num_micro_batches, const MachineConfig& machine,
                              const LayoutConfig& layout);

// ResourceExhausted, naming the flags to lower, where the layout's ranks on this machine do not fit
// into its memory, or into its GPU's.
absl::Status CheckMemoryOfFlags(const EngineOptions& options, const MachineConfig& machine,
                                const LayoutConfig& layout);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_ENGINE_FLAGS_H_
