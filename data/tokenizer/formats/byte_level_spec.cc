#include "data/tokenizer/formats/byte_level_spec.h"

#include <utility>

namespace strake {

TokenizerSpec ByteLevelSpec(const std::string& pattern) {
  TokenizerSpec spec;
  spec.byte_level = true;
  if (!pattern.empty()) {
    PreTokenizer split;
    split.kind = PreTokenizer::Kind::kSplit;
    split.pattern = pattern;
    split.behavior = PreTokenizer::Behavior::kIsolated;
    spec.pre_tokenizers.push_back(std::move(split));
  }
  PreTokenizer bytes;
  bytes.kind = PreTokenizer::Kind::kByteLevel;
  spec.pre_tokenizers.push_back(std::move(bytes));
  spec.decoders.push_back({DecodingStep::Kind::kByteLevel});
  return spec;
}

}  // namespace strake
