// tokenizer.json: the format of Hugging Face's library `tokenizers`.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_TOKENIZER_JSON_READER_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_TOKENIZER_JSON_READER_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/tokenizer_spec.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

// `path` is for messages. InvalidArgument, naming the component, the key or the token, for a model
// other than BPE and for whatever TokenizerSpec cannot express.
absl::StatusOr<TokenizerSpec> ReadTokenizerJson(const nlohmann::json& file,
                                                const std::string& path);
absl::StatusOr<TokenizerSpec> ParseTokenizerJson(absl::string_view text, const std::string& path);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_TOKENIZER_JSON_READER_H_
