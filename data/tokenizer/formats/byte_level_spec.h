// ByteLevelSpec: what all byte-level vocabularies have in common but their tokens.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_BYTE_LEVEL_SPEC_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_BYTE_LEVEL_SPEC_H_

#include <string>

#include "data/tokenizer/tokenizer_spec.h"

namespace strake {

// A spec without tokens that cuts a text into words by a regular expression, or not at all where
// that is empty. What lies between matches is a word too.
TokenizerSpec ByteLevelSpec(const std::string& pattern);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_BYTE_LEVEL_SPEC_H_
