// CheckpointLogits: what a Hugging Face directory computes, or an adapter beside its base, as
// Strake loads it.
#ifndef STRAKE_TESTS_CHECKPOINT_LOGITS_H_
#define STRAKE_TESTS_CHECKPOINT_LOGITS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace strake::testing {

// The logits [tokens, vocabulary] of a sequence, f32, on one rank of one thread. Returns the error
// of a configuration or of weights that cannot be loaded.
absl::StatusOr<std::vector<float>> CheckpointLogits(const std::string& directory,
                                                    std::vector<int32_t> tokens);

}  // namespace strake::testing

#endif  // STRAKE_TESTS_CHECKPOINT_LOGITS_H_
