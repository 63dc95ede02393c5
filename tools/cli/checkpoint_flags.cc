#include "tools/cli/checkpoint_flags.h"

#include "core/base/name_error.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "models/families/families.h"
#include "tools/cli/options.h"
#include "tools/cli/user_paths.h"
#include "train/run/manifest.h"

namespace strake {

absl::StatusOr<GivenCheckpoint> ReadCheckpointFlag(const std::string& path) {
  GivenCheckpoint checkpoint;
  STRAKE_ASSIGN_OR_RETURN(checkpoint.directory, ModelFolderOfFlag("--checkpoint", path));
  STRAKE_ASSIGN_OR_RETURN(
      checkpoint.model,
      NameError("--checkpoint", ReadHfConfig(checkpoint.directory + "/config.json",
                                             /*notices=*/nullptr)));
  STRAKE_RETURN_IF_ERROR(NameError("--checkpoint", VerifyWeights(checkpoint.directory)));
  return checkpoint;
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> OpenTokenizerFlag(
    const std::string& path, const std::string& pattern, const GivenCheckpoint& checkpoint) {
  return NameError(path.empty() ? "--checkpoint" : "--tokenizer",
                   OpenModelTokenizer({.given = path, .directories = {checkpoint.directory}},
                                      checkpoint.model.vocab_size, {.pattern = pattern}));
}

}  // namespace strake
