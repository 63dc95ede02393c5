// ReadAddedToken: an added token, as tokenizer.json and tokenizer_config.json write it.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_ADDED_TOKENS_JSON_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_ADDED_TOKENS_JSON_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "data/tokenizer/tokenizer_spec.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

// The object has the token's text, "content", and its flags. `id` is the token's id.
absl::StatusOr<AddedToken> ReadAddedToken(const nlohmann::json& value, int64_t id,
                                          const std::string& where);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_ADDED_TOKENS_JSON_H_
