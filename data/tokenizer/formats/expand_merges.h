// ExpandMerges: the merges of a vocabulary whose file has tokens and their ranks, but no merges.
//
// tiktoken and SentencePiece join two neighbours wherever the result is a token, the token of the
// lowest rank first. So each way to cut a token into two others is a merge of the token's rank.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_EXPAND_MERGES_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_EXPAND_MERGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/tokenizer/tokenizer_spec.h"

namespace strake {

// The merges of all tokens whose rank is not negative: others, and empty ones, take no part. The
// tokens that take part differ. Takes time in proportion to the tokens' bytes and the merges.
// ResourceExhausted for more merges than any real vocabulary has: a file of a few megabytes could
// have billions.
absl::StatusOr<std::vector<Merge>> ExpandMerges(absl::Span<const std::string> tokens,
                                                absl::Span<const int64_t> ranks);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_EXPAND_MERGES_H_
