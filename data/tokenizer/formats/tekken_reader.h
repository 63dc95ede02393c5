// tekken.json: Mistral's format. Its ranks are tiktoken's; the special tokens have the first ids.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_TEKKEN_READER_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_TEKKEN_READER_H_

#include <string>

#include "absl/status/statusor.h"
#include "data/tokenizer/tokenizer_spec.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

// `path` is for messages. Takes versions 3, 7, 11, 13 and 15, which differ in what chats are made
// of alone. InvalidArgument, naming key and value, for what is no such file.
absl::StatusOr<TokenizerSpec> ReadTekken(const nlohmann::json& file, const std::string& path);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_TEKKEN_READER_H_
