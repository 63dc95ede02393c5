// FileContent: what a file holds, by its first bytes and not by its name.
#ifndef STRAKE_DATA_TEXT_FILE_CONTENT_H_
#define STRAKE_DATA_TEXT_FILE_CONTENT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

enum class FileContent : uint8_t {
  kText,    // no NUL, and hardly a control character but those of text; UTF-8 or not
  kGzip,    // of whatever content
  kZstd,    // of whatever content
  kTokens,  // llm.c's token file
  kOther,   // anything else: images, archives, .npy, .parquet, ...
};

// The number of bytes that tell: of a longer file, the rest is not looked at.
inline constexpr int64_t kContentBytes = 16384;

struct ContentKind {
  FileContent content = FileContent::kOther;
  std::string name = {};  // as messages call it: "a Parquet file", "a NumPy array", "binary data"
  std::string hint = {};  // what to do where text is needed: "export its text as JSON lines"
};

// What the first bytes of a file say. Nothing at all is text.
ContentKind ContentOfBytes(absl::string_view first_bytes);

// Reads the beginning of the file. Returns an error, naming the file, for one that is missing,
// cannot be read, is empty, or is no regular file (reading from a pipe would take bytes away).
absl::StatusOr<ContentKind> ContentOfFile(const std::string& path);

// InvalidArgument: "PATH: is a NumPy array, not text; save its text as UTF-8".
absl::Status NotTextError(const std::string& path, const ContentKind& kind);

}  // namespace strake

#endif  // STRAKE_DATA_TEXT_FILE_CONTENT_H_
