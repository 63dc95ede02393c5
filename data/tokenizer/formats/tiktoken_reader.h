// tiktoken's files: on each line a token in base64 and its rank, which is also its id.
//
// Such a file says neither how a text is cut into words nor which tokens are special. Known files
// are told by their SHA-256.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_TIKTOKEN_READER_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_TIKTOKEN_READER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/tokenizer_spec.h"

namespace strake {

// Whether a file begins like ranks: other formats share the suffix ".model".
bool IsTiktokenRanks(absl::string_view text);

// Cuts words by `pattern`, or, where that is empty, by that of the known file. `path` is for
// messages. InvalidArgument, naming the line, for what is no ranks' file, two tokens of one rank or
// text, and a byte that is no token; FailedPrecondition for an unknown file without a pattern.
absl::StatusOr<TokenizerSpec> ParseTiktokenRanks(absl::string_view text, const std::string& path,
                                                 const std::string& pattern);

// Sets the spec's tokens from id `first_id` on, with their merges: `tokens` by rank. Words that are
// tokens are not merged. `where` begins each message. InvalidArgument for two equal tokens, and for
// a byte that is no token.
absl::Status SetRankedTokens(std::vector<std::string> tokens, size_t first_id,
                             const std::string& where, TokenizerSpec* spec);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_TIKTOKEN_READER_H_
