#include "tools/cli/checkpoint_flags.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/name_error.h"
#include "core/base/status_macros.h"
#include "data/chat/chat_template.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "models/checkpoint/model_files.h"
#include "tools/cli/options.h"
#include "tools/cli/user_paths.h"
#include "train/run/base_weights.h"
#include "train/run/manifest.h"

namespace strake {

namespace {

absl::Status CheckWeights(const GivenCheckpoint& checkpoint, const OnWork& on_work) {
  STRAKE_RETURN_IF_ERROR(VerifyWeights(checkpoint.directory, on_work));
  if (checkpoint.files.adapter.empty()) return absl::OkStatus();
  STRAKE_RETURN_IF_ERROR(VerifyWeights(checkpoint.files.base, on_work));
  return CheckBaseOfAdapter(checkpoint.files, checkpoint.model,
                            RenameWork("checking the adapter's base", on_work));
}

// The error with the flag that tells where the base is.
absl::Status NameMissingBase(const absl::Status& error) {
  if (!absl::IsNotFound(error)) return error;
  return absl::NotFoundError(absl::StrCat(error.message(), " by --base_model"));
}

}  // namespace

absl::StatusOr<GivenCheckpoint> ReadCheckpointFlag(const std::string& path,
                                                   const std::string& base_model,
                                                   const OnWork& on_work) {
  constexpr char kFlag[] = "--checkpoint";
  GivenCheckpoint checkpoint;
  STRAKE_ASSIGN_OR_RETURN(checkpoint.directory, ModelFolderOfFlag(kFlag, path));
  std::string base;
  if (!base_model.empty()) {
    STRAKE_ASSIGN_OR_RETURN(base, ModelFolderOfFlag("--base_model", base_model));
  }
  auto files = FindModelFiles(checkpoint.directory, base, /*notices=*/nullptr);
  if (!files.ok()) return NameMissingBase(NameError(kFlag, files.status()));
  checkpoint.files = *std::move(files);
  STRAKE_ASSIGN_OR_RETURN(checkpoint.model,
                          NameError(kFlag, ReadModelConfig(checkpoint.files, /*notices=*/nullptr)));
  STRAKE_RETURN_IF_ERROR(NameError(kFlag, CheckWeights(checkpoint, on_work)));
  if (on_work != nullptr) on_work({});
  return checkpoint;
}

absl::StatusOr<std::string> ChatTemplateFolder(const GivenCheckpoint& checkpoint) {
  STRAKE_ASSIGN_OR_RETURN(const auto own, ReadChatTemplate(checkpoint.directory));
  return own.has_value() ? checkpoint.directory : checkpoint.files.base;
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> OpenTokenizerFlag(
    const std::string& path, const std::string& pattern, const GivenCheckpoint& checkpoint) {
  return NameError(
      path.empty() ? "--checkpoint" : "--tokenizer",
      OpenModelTokenizer(
          {.given = path, .directories = {checkpoint.directory, checkpoint.files.base}},
          checkpoint.model.vocab_size, {.pattern = pattern}));
}

}  // namespace strake
