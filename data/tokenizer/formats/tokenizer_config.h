// TokenizerConfig: what tokenizer_config.json, generation_config.json and config.json, which stand
// beside a tokenizer's file, say about it.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_TOKENIZER_CONFIG_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_TOKENIZER_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/tokenizer/tokenizer_spec.h"

namespace strake {

struct TokenizerConfig {
  // Of tokenizer_config.json, and added_tokens.json.
  std::string tokenizer_class = {};
  std::optional<std::string> begin_of_text = {}, end_of_text = {};
  std::optional<bool> add_begin_of_text = {}, add_end_of_text = {};
  std::vector<AddedToken> added = {};
  std::vector<std::string> special = {};  // the texts of tokens that are no text, in any role

  // The first of generation_config.json and config.json that has them.
  std::optional<int64_t> begin_of_text_id = {}, end_of_text_id = {};
};

// The texts of the files; nothing where there is none.
struct TokenizerConfigTexts {
  std::optional<std::string> tokenizer_config = {}, added_tokens = {}, generation_config = {},
                             config = {};
};

// Files that are not there say nothing. InvalidArgument, naming file and key, for one of another
// form.
absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& directory);
// The same for texts in memory. `directory` is for messages.
absl::StatusOr<TokenizerConfig> ParseTokenizerConfig(const TokenizerConfigTexts& texts,
                                                     const std::string& directory);

// Adds the configuration's added tokens to a spec that was read without them. One that the spec
// has added under another text takes the configuration's. InvalidArgument for an id that is another
// token's.
absl::Status AddConfiguredTokens(const TokenizerConfig& config, const std::string& path,
                                 TokenizerSpec* spec);

// Sets the spec's begin_of_text and end_of_text as far as the configuration has them. A token by
// text goes before one by id, and a token of the spec itself before an id. InvalidArgument for a
// text that is no token. Ids that are none are passed over: a config.json may be older than its
// tokenizer.
absl::Status SetEnds(const TokenizerConfig& config, const std::string& path, TokenizerSpec* spec);

// Sets prefix and suffix, as the configuration has it; where it says nothing, they stay. It is for
// formats without a post-processor.
void SetPrefixAndSuffix(const TokenizerConfig& config, TokenizerSpec* spec);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_TOKENIZER_CONFIG_H_
