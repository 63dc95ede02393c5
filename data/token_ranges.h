// TokenRanges: parts of a token stream as one sequence.
#ifndef STRAKE_DATA_TOKEN_RANGES_H_
#define STRAKE_DATA_TOKEN_RANGES_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "data/token_stream.h"

namespace strake {

// Tokens [begin, end) of a stream.
struct TokenRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t num_tokens() const { return end - begin; }
  friend bool operator==(const TokenRange&, const TokenRange&) = default;
};

class TokenRanges {
 public:
  TokenRanges() = default;
  // CHECKs that no range ends before it begins. Empty ones are left out, and ranges that meet
  // become one.
  explicit TokenRanges(const std::vector<TokenRange>& ranges);

  int64_t num_tokens() const { return begins_.empty() ? 0 : begins_.back(); }
  const std::vector<TokenRange>& ranges() const { return ranges_; }

  // Reads tokens[i] = token begin + i of the ranges, one after the other, i < count. Returns
  // TokenStream::Read's error. Takes O(log of the number of ranges) and is safe to call from many
  // threads.
  absl::Status Read(const TokenStream& stream, int64_t begin, int64_t count, int32_t* tokens) const;

  // Appends to `ranges` those of the stream that hold tokens [begin, begin + count), in order. One
  // that goes on where the last one ends becomes part of it.
  void Locate(int64_t begin, int64_t count, std::vector<TokenRange>* ranges) const;

  // A hash of the ranges' ends.
  uint64_t Hash() const;

  friend bool operator==(const TokenRanges&, const TokenRanges&) = default;

 private:
  // Calls visit(begin in the stream, count, offset from `begin`) for each part, until it returns an
  // error.
  template <typename Visit>
  absl::Status VisitParts(int64_t begin, int64_t count, const Visit& visit) const;

  std::vector<TokenRange> ranges_;
  std::vector<int64_t> begins_;  // of each range in the sequence; then the number of tokens
};

// What of `ranges` is in none of `cut`. Both are ascending.
TokenRanges Without(const TokenRanges& ranges, const std::vector<TokenRange>& cut);

}  // namespace strake

#endif  // STRAKE_DATA_TOKEN_RANGES_H_
