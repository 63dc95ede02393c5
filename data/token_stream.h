// TokenStream: the tokens of any number of files as one sequence, in the order of the list.
#ifndef STRAKE_DATA_TOKEN_STREAM_H_
#define STRAKE_DATA_TOKEN_STREAM_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/fingerprint.h"
#include "core/base/thread_team.h"
#include "data/token_file.h"

namespace strake {

class TokenStream {
 public:
  // Returns the error of the first file that TokenFile::Open rejects, and an error for an empty
  // list.
  static absl::StatusOr<TokenStream> Open(const std::vector<std::string>& paths,
                                          int64_t vocab_size);

  int64_t num_tokens() const { return begins_.back(); }
  const std::vector<TokenFile>& files() const { return files_; }

  // Reads tokens[i] = token begin + i of the stream, i < count, across file boundaries. Returns
  // TokenFile::Read's error. Safe to call from many threads.
  absl::Status Read(int64_t begin, int64_t count, int32_t* tokens) const;

  // The fingerprint of all tokens: token i, plus 1 so that a token 0 counts, is the element at row
  // i / 2^16 and column i % 2^16. Depends on the stream alone: not on its files' paths, sizes or
  // encoding.
  Fingerprint AllTokens(ThreadTeam& team) const;

  // A hash of the number of tokens and of samples of their values: of all up to kMaxSampledTokens
  // tokens, beyond that of windows spread evenly from the first token to the last. Depends on the
  // stream alone, too.
  uint64_t SampledTokens() const;
  static constexpr int64_t kMaxSampledTokens = int64_t{1} << 24;

 private:
  TokenStream() = default;

  // Calls visit(file, begin within the file, count, offset from `begin`) for each part of the range
  // that lies in one file, until it returns an error.
  template <typename Visit>
  absl::Status VisitParts(int64_t begin, int64_t count, const Visit& visit) const;
  // Calls visit(tokens, count) for pieces of the range, in order; checks no vocabulary.
  template <typename Visit>
  void VisitTokens(int64_t begin, int64_t count, const Visit& visit) const;
  uint64_t HashRange(uint64_t hash, int64_t begin, int64_t count) const;

  std::vector<TokenFile> files_;
  std::vector<int64_t> begins_;  // of each file, in the stream; then the number of tokens
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKEN_STREAM_H_
