#include "train/run/data_content.h"

#include "absl/strings/str_cat.h"

namespace strake {

absl::StatusOr<std::optional<ContentKind>> TextContentOf(const std::string& file) {
  const absl::StatusOr<ContentKind> kind = ContentOfFile(file);
  if (!kind.ok()) return std::nullopt;
  if (kind->content == FileContent::kTokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "data file ", file, ": holds tokens in llm.c's format; let its name end in .bin"));
  }
  if (kind->content == FileContent::kOther) return NotTextError("data file " + file, *kind);
  return *kind;
}

absl::Status TextForTokensError(const std::string& file, int64_t vocab_size,
                                absl::string_view more) {
  return absl::InvalidArgumentError(absl::StrCat("data file ", file,
                                                 ": is text, and the model has ", vocab_size,
                                                 " tokens, which are not bytes", more));
}

}  // namespace strake
