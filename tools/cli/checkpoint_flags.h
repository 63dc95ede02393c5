// The model and the tokenizer that the flags --checkpoint and --tokenizer of a program name.
#ifndef STRAKE_TOOLS_CLI_CHECKPOINT_FLAGS_H_
#define STRAKE_TOOLS_CLI_CHECKPOINT_FLAGS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "data/tokenizer/tokenizer.h"
#include "models/model_config.h"

namespace strake {

struct GivenCheckpoint {
  std::string directory;  // of a run, that of its last checkpoint
  ModelConfig model;
};

// Finds the directory of --checkpoint=PATH, reads its config.json, and compares its weights with
// their checksums where a run wrote it. Errors name flag and path.
absl::StatusOr<GivenCheckpoint> ReadCheckpointFlag(const std::string& path);

// Opens the tokenizer of --tokenizer, or where `path` is empty the checkpoint's; a model of bytes
// needs none. Null where there is none. Errors name flag and path.
absl::StatusOr<std::unique_ptr<const Tokenizer>> OpenTokenizerFlag(
    const std::string& path, const std::string& pattern, const GivenCheckpoint& checkpoint);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_CHECKPOINT_FLAGS_H_
