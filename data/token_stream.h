// TokenStream: the tokens of any number of files as one sequence, in the order of the list.
#ifndef STRAKE_DATA_TOKEN_STREAM_H_
#define STRAKE_DATA_TOKEN_STREAM_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/token_file.h"

namespace strake {

class TokenStream {
 public:
  // The error of the first file that TokenFile::Open rejects; an empty list is an error too.
  static absl::StatusOr<TokenStream> Open(const std::vector<std::string>& paths,
                                          int64_t vocab_size);

  int64_t num_tokens() const { return begins_.back(); }
  const std::vector<TokenFile>& files() const { return files_; }

  // tokens[i] = token begin + i of the stream, i < count, across the borders of files. The error is
  // that of TokenFile::Read. Safe to call from many threads.
  absl::Status Read(int64_t begin, int64_t count, int32_t* tokens) const;

  // A hash of the number of tokens and of their values: of all up to kMaxHashedTokens, of windows
  // spread evenly from the first token to the last beyond. It depends on the stream alone: not on
  // where its files lie, how it is cut into files, or their encoding.
  uint64_t Fingerprint() const;
  static constexpr int64_t kMaxHashedTokens = int64_t{1} << 24;

 private:
  TokenStream() = default;

  // Calls visit(file, begin within the file, count, offset from `begin`) for each part of the range
  // that lies in one file, until it returns an error.
  template <typename Visit>
  absl::Status VisitParts(int64_t begin, int64_t count, const Visit& visit) const;
  uint64_t HashRange(uint64_t hash, int64_t begin, int64_t count) const;

  std::vector<TokenFile> files_;
  std::vector<int64_t> begins_;  // of each file, in the stream; then the number of tokens
};

// The files that a comma-separated list of paths and globs (* ? []) stands for, in list order, the
// matches of one glob sorted. An entry that is empty or matches nothing is an error that names it.
absl::StatusOr<std::vector<std::string>> ExpandPaths(absl::string_view paths);

}  // namespace strake

#endif  // STRAKE_DATA_TOKEN_STREAM_H_
