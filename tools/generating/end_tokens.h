// The tokens that end a text, as a model's files name them.
#ifndef STRAKE_TOOLS_GENERATING_END_TOKENS_H_
#define STRAKE_TOOLS_GENERATING_END_TOKENS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/tokenizer/tokenizer.h"

namespace strake {

// eos_token_id, a token or a list, of the directory's generation_config.json, else of its
// config.json, else the tokenizer's end of text. `tokenizer` may be null. Tokens outside the
// vocabulary, which a model cannot choose, are left out. An error names the file and the value.
absl::StatusOr<std::vector<int32_t>> ReadEndTokens(const std::string& directory,
                                                   const Tokenizer* tokenizer, int64_t vocab_size);

}  // namespace strake

#endif  // STRAKE_TOOLS_GENERATING_END_TOKENS_H_
