// The model and the tokenizer that the flags --checkpoint, --base_model and --tokenizer of a
// program name.
#ifndef STRAKE_TOOLS_CLI_CHECKPOINT_FLAGS_H_
#define STRAKE_TOOLS_CLI_CHECKPOINT_FLAGS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/base/work_state.h"
#include "data/tokenizer/tokenizer.h"
#include "models/checkpoint/model_files.h"
#include "models/model_config.h"

namespace strake {

struct GivenCheckpoint {
  std::string directory;  // of a run, that of its last checkpoint
  ModelFiles files;       // an adapter's base may lie elsewhere
  ModelConfig model;      // with the adapter merged into it
};

// What --base_model is, for a program's help.
inline constexpr char kBaseModelHelp[] =
    "directory of the model that an adapter in --checkpoint belongs to; without it the one "
    "that its adapter_config.json names";

// Finds the directory of --checkpoint=PATH, reads its config.json, and compares its weights with
// their checksums where a run wrote it. Of an adapter, `base_model` is the base's, or empty; a
// run's must be the one that it was trained on. Tells of what it reads, and of the end, with an
// empty state. Errors name flag and path.
absl::StatusOr<GivenCheckpoint> ReadCheckpointFlag(const std::string& path,
                                                   const std::string& base_model,
                                                   const OnWork& on_work = nullptr);

// The folder whose chat template counts: of an adapter without one, its base's.
absl::StatusOr<std::string> ChatTemplateFolder(const GivenCheckpoint& checkpoint);

// Opens the tokenizer of --tokenizer, or where `path` is empty the checkpoint's; a model of bytes
// needs none. Null where there is none. Errors name flag and path.
absl::StatusOr<std::unique_ptr<const Tokenizer>> OpenTokenizerFlag(
    const std::string& path, const std::string& pattern, const GivenCheckpoint& checkpoint);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_CHECKPOINT_FLAGS_H_
