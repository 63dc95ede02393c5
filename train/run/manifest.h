// manifest.json: checksums of every byte of a checkpoint's files.
//
//   format_version   1
//   files            by path below the directory, the parts of the file in their order:
//                    [NAME, BYTES, CRC-32C in hex]. A part is a tensor, under its name, or anything
//                    else, under ""
//   manifest         the CRC-32C of this text, in which these eight digits are 0
#ifndef STRAKE_TRAIN_RUN_MANIFEST_H_
#define STRAKE_TRAIN_RUN_MANIFEST_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/file_part.h"
#include "core/base/work_state.h"

namespace strake {

using Manifest = std::map<std::string, std::vector<FilePart>>;

std::string ToJson(const Manifest& manifest);

// Returns DataLoss, with `source` and the reason, for a text that ToJson() does not write.
absl::StatusOr<Manifest> ParseManifest(absl::string_view text, const std::string& source);

// Compares the checkpoint in a directory with its manifest.json. Of all parts, in order, reads
// those whose number modulo `num_readers` is `reader`: ranks share the work. DataLoss, naming file
// and tensor, for one that differs, and for a file that is missing, shorter or longer; NotFound
// where there is no manifest, as in checkpoints of other programs.
// Tells of the bytes that it reads.
absl::Status VerifyCheckpoint(const std::string& directory, int reader = 0, int num_readers = 1,
                              const OnWork& on_work = nullptr);
// The same of the weights alone, for programs that need no more. Other files may have been changed
// by hand. OK where there is no manifest.
absl::Status VerifyWeights(const std::string& directory, const OnWork& on_work = nullptr);

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_MANIFEST_H_
