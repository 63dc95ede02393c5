// TokenFileWriter: a token file that is written as its tokens come, and appears when it is whole.
#ifndef STRAKE_DATA_TEXT_TOKEN_FILE_WRITER_H_
#define STRAKE_DATA_TEXT_TOKEN_FILE_WRITER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/file_descriptor.h"
#include "data/token_file.h"

namespace strake {

class TokenFileWriter {
 public:
  // Writes to "PATH.tmp", which Finish() renames. `encoding` is not kBytes.
  static absl::StatusOr<TokenFileWriter> Create(const std::string& path, TokenEncoding encoding);
  TokenFileWriter(TokenFileWriter&&) = default;
  TokenFileWriter& operator=(TokenFileWriter&&) = default;

  // The tokens must fit the encoding, and all of them the header, which counts to 2^31 - 1.
  absl::Status Append(absl::Span<const int32_t> tokens);
  int64_t num_tokens() const { return num_tokens_; }

  // Flushes the file to the disk and gives it its name.
  absl::Status Finish();

 private:
  TokenFileWriter(std::string path, TokenEncoding encoding, FileDescriptor file);
  absl::Status Flush();

  std::string path_;
  TokenEncoding encoding_;
  FileDescriptor file_;
  std::string buffer_;
  int64_t num_tokens_ = 0;
};

}  // namespace strake

#endif  // STRAKE_DATA_TEXT_TOKEN_FILE_WRITER_H_
