// Writes the files by which other programs open a tokenizer:
//
//   tokenizer.json          what Hugging Face's tokenizers reads, and Strake's OpenTokenizer()
//   tokenizer_config.json   what transformers' AutoTokenizer wants beside it
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_TOKENIZER_JSON_WRITER_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_TOKENIZER_JSON_WRITER_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "data/tokenizer/tokenizer_spec.h"

namespace strake {

// The contents of tokenizer.json. Whoever opens it gives every text the spec's tokens.
// Unimplemented for a spec that is not byte-level, or has a component that has no such form.
absl::StatusOr<std::string> TokenizerJson(const TokenizerSpec& spec);

// The contents of tokenizer_config.json.
std::string TokenizerConfigJson(const TokenizerSpec& spec);

// Both, by the file's name.
absl::StatusOr<std::map<std::string, std::string>> TokenizerFiles(const TokenizerSpec& spec);

// The files of a model of bytes: token i is byte i.
std::map<std::string, std::string> ByteTokenizerFiles();

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_TOKENIZER_JSON_WRITER_H_
