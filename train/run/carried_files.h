// The files of a model's directory that training does not change: its tokenizer, chat template,
// generation_config.json, license and the like. Checkpoints carry copies, so that other programs
// open them like the original.
#ifndef STRAKE_TRAIN_RUN_CARRIED_FILES_H_
#define STRAKE_TRAIN_RUN_CARRIED_FILES_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace strake {

// Contents by name, or by path below the directory.
using CarriedFiles = std::map<std::string, std::string>;

// The folder of a model's chat templates beside the first.
inline constexpr char kChatTemplatesFolder[] = "additional_chat_templates";

// The largest files that are carried: of a tokenizer, and others.
inline constexpr int64_t kMaxTokenizerFileBytes = int64_t{64} << 20;
inline constexpr int64_t kMaxOtherFileBytes = int64_t{4} << 20;

// Reads the regular files directly in `directory`, and in its folder of chat templates, except
//
//   config.json and what else a checkpoint has of its own; another trainer's state
//   weights, whatever their format, and their indices; archives
//   names that begin with "."
//
// Adds a sentence to `skipped` for each that would be carried but for its size, for a name that is
// no plain text, or for a symbolic link to a file elsewhere. Links within the directory are
// followed, and those of the cache of huggingface_hub, from DIR/../../blobs.
//
// Returns an error, naming file and reason, where one cannot be read, and the directory where all
// together are larger than 256 MiB.
absl::StatusOr<CarriedFiles> ReadCarriedFiles(const std::string& directory,
                                              std::vector<std::string>* skipped);

// Makes the folders that the files lie in below `directory`, which is there.
absl::Status MakeFoldersOf(const CarriedFiles& files, const std::string& directory);

// Whether a file of this name belongs to a tokenizer: its chat templates do.
bool IsOfTokenizer(const std::string& name);
// Whether a whole tokenizer is among them.
bool CarriesTokenizer(const CarriedFiles& files);

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_CARRIED_FILES_H_
