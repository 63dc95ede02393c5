// The normalizer, pre-tokenizer, decoder and post-processor of a tokenizer.json.
//
// Each function appends to, or sets, a part of the spec. `value` is the component's JSON; null
// means that the file has none. InvalidArgument, naming the component, for one that TokenizerSpec
// cannot express.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_TOKENIZER_JSON_COMPONENTS_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_TOKENIZER_JSON_COMPONENTS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "data/tokenizer/tokenizer_spec.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

absl::Status ReadNormalizer(const nlohmann::json& value, const std::string& where,
                            std::vector<Normalizer>* normalizers);
absl::Status ReadPreTokenizer(const nlohmann::json& value, const std::string& where,
                              std::vector<PreTokenizer>* pre_tokenizers);
absl::Status ReadDecoder(const nlohmann::json& value, const std::string& where,
                         std::vector<DecodingStep>* decoders);
// Sets the spec's prefix and suffix.
absl::Status ReadPostProcessor(const nlohmann::json& value, const std::string& where,
                               TokenizerSpec* spec);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_TOKENIZER_JSON_COMPONENTS_H_
