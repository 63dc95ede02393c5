// DocumentBytes: at which bytes of its document's text tokens begin.
#ifndef STRAKE_TOOLS_DATA_WHY_DOCUMENT_BYTES_H_
#define STRAKE_TOOLS_DATA_WHY_DOCUMENT_BYTES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/token_ranges.h"

namespace strake {

class DocumentBytes {
 public:
  struct Tokens {
    std::function<absl::Status(int64_t begin, int64_t count, int32_t* tokens)> read = {};
    std::function<int64_t(int32_t token)> num_bytes = {};
    // Bytes that a text lacks where its first token with bytes is this one.
    std::function<int64_t(int32_t token)> num_trimmed = {};
  };

  explicit DocumentBytes(Tokens tokens) : tokens_(std::move(tokens)) {}

  // bytes[i]: the byte at which token i of the range begins, i <= number of tokens, in the text of
  // the document whose first token is `document`. Reads the document up to the range once: later
  // calls read the range, and at most kTokensAtATime tokens before it.
  absl::StatusOr<std::vector<int64_t>> BytesOf(int64_t document, const TokenRange& range);
  static constexpr int64_t kTokensAtATime = 1 << 16;

 private:
  struct Counted {
    std::vector<int64_t> bytes = {0};  // before every kTokensAtATime-th token
    int64_t trimmed = 0;
  };

  Tokens tokens_;
  std::map<int64_t, Counted> counted_;  // of each document, as far as it was read
};

}  // namespace strake

#endif  // STRAKE_TOOLS_DATA_WHY_DOCUMENT_BYTES_H_
