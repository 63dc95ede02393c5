// The tokens that end a text, as a model's files name them.
#ifndef STRAKE_TOOLS_GENERATING_END_TOKENS_H_
#define STRAKE_TOOLS_GENERATING_END_TOKENS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/tokenizer.h"

namespace strake {

// eos_token_id, a token or a list, of the directory's generation_config.json, else of its
// config.json, else the tokenizer's end of text. `tokenizer` may be null. Tokens outside the
// vocabulary, which a model cannot choose, are left out. An error names the file and the value.
absl::StatusOr<std::vector<int32_t>> ReadEndTokens(const std::string& directory,
                                                   const Tokenizer* tokenizer, int64_t vocab_size);

// eos_token_id of such a file's text, in or out of the vocabulary; nothing where it has none.
// `path` is for messages.
absl::StatusOr<std::optional<std::vector<int64_t>>> ParseEndTokens(absl::string_view text,
                                                                   const std::string& path);

}  // namespace strake

#endif  // STRAKE_TOOLS_GENERATING_END_TOKENS_H_
