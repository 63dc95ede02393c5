// The keys of GGUF that describe a tokenizer.
#ifndef STRAKE_TRAIN_EXPORT_GGUF_TOKENIZER_KEYS_H_
#define STRAKE_TRAIN_EXPORT_GGUF_TOKENIZER_KEYS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizer/formats/gguf_vocabulary.h"
#include "models/gguf/gguf_metadata.h"

namespace strake {

// Adds a vocabulary. Of the tokens that end a generated text the first is the end of text, unless
// the vocabulary names one; the others are the end of a turn and of a message, the places that the
// format has. Without any, or with more than there are places, a notice says so.
void AddGgufTokenizerKeys(const GgufVocabulary& vocabulary, const std::vector<int32_t>& end_tokens,
                          GgufMetadata* metadata, std::vector<std::string>* notices);

// Adds what says that a file has no tokenizer.
void AddNoGgufTokenizer(GgufMetadata* metadata);

}  // namespace strake

#endif  // STRAKE_TRAIN_EXPORT_GGUF_TOKENIZER_KEYS_H_
