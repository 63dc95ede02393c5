// TokenFile: one file of tokens, mapped into memory.
//
//   *.bin     llm.c's format: 256 int32 of header (magic, version, number of tokens, zeros), then
//             the tokens. Magic 20240520, version 1: uint16 tokens. Magic 20240801, version 7:
//             uint32 tokens. Little-endian.
//   any other text, read as bytes: a vocabulary of 256.
#ifndef STRAKE_DATA_TOKEN_FILE_H_
#define STRAKE_DATA_TOKEN_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/file_mapping.h"

namespace strake {

enum class TokenEncoding : uint8_t { kBytes, kUint16, kUint32 };

class TokenFile {
 public:
  // Files up to this size are checked for tokens outside the vocabulary when they are opened;
  // larger ones as they are read.
  static constexpr int64_t kMaxScanBytes = int64_t{1} << 30;

  // Returns an error, naming the file, where it is missing, not readable, not a regular file, or
  // empty; for a wrong magic or version; for a size that does not match the header; and for a token
  // that is not below `vocab_size` (with its offset in tokens).
  static absl::StatusOr<TokenFile> Open(const std::string& path, int64_t vocab_size);

  // Like Open, from the file's bytes, which must outlive the result. `path` determines the format.
  static absl::StatusOr<TokenFile> Parse(const std::string& path, absl::string_view content,
                                         int64_t vocab_size);

  const std::string& path() const { return path_; }
  TokenEncoding encoding() const { return encoding_; }
  int64_t num_tokens() const { return num_tokens_; }

  // Reads tokens[i] = token begin + i of the file, i < count; an error names a token outside the
  // vocabulary. Safe to call from many threads.
  absl::Status Read(int64_t begin, int64_t count, int32_t* tokens) const;

  // Reads without checking the vocabulary.
  void ReadUnchecked(int64_t begin, int64_t count, int32_t* tokens) const;

 private:
  TokenFile() = default;
  absl::Status ParseHeader(absl::string_view content);
  absl::Status CheckVocabulary(int64_t begin, int64_t count) const;

  FileMapping mapping_;
  std::string path_;
  TokenEncoding encoding_ = TokenEncoding::kBytes;
  const char* tokens_ = nullptr;  // the first token
  int64_t num_tokens_ = 0;
  int64_t vocab_size_ = 0;
  bool checked_ = false;  // no token can be outside the vocabulary
};

// Writes a file that Open reads: llm.c's format, or plain bytes with kBytes. Returns an error where
// the path cannot be written, a token does not fit the encoding, or there are more tokens than the
// header can count.
absl::Status WriteTokenFile(const std::string& path, absl::Span<const int32_t> tokens,
                            TokenEncoding encoding);

}  // namespace strake

#endif  // STRAKE_DATA_TOKEN_FILE_H_
