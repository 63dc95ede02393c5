// What the files of a run hold whose names are not those of token files (*.bin).
#ifndef STRAKE_TRAIN_RUN_DATA_CONTENT_H_
#define STRAKE_TRAIN_RUN_DATA_CONTENT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/text/file_content.h"

namespace strake {

// Text, or text that is compressed. Nothing for a file that is empty or cannot be read: opening it
// gives the error. InvalidArgument, naming the file, for tokens in llm.c's format and for all else.
absl::StatusOr<std::optional<ContentKind>> TextContentOf(const std::string& file);

// InvalidArgument: the file is text, and the model's tokens are not bytes; then what `more` says.
absl::Status TextForTokensError(const std::string& file, int64_t vocab_size,
                                absl::string_view more);

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_DATA_CONTENT_H_
