// GgufVocabulary: a tokenizer as GGUF files hold it, the values of their keys tokenizer.ggml.*.
//
// The format names algorithms that its readers have built in: "gpt2", byte-level merges after a
// named way to cut words, and "llama", SentencePiece's merges by scores with byte fallback. Facts:
// llama.cpp, src/llama-vocab.cpp, and the constants of its package gguf.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_GGUF_VOCABULARY_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_GGUF_VOCABULARY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/tokenizer/tokenizer_spec.h"

namespace strake {

// The format's numbers of kinds of tokens.
enum class GgufTokenType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct GgufVocabulary {
  std::string model;  // "gpt2" or "llama"
  std::string pre;    // the name of a way to cut words
  // By id. An id without a token is "[PADi]" of kUnused.
  std::vector<std::string> tokens = {};
  std::vector<GgufTokenType> types = {};
  std::vector<float> scores = {};        // of "llama": the highest is merged first
  std::vector<std::string> merges = {};  // of "gpt2", in order: two tokens with a blank between
  std::optional<int32_t> begin_of_text = {}, end_of_text = {}, unknown = {};
  bool add_begin_of_text = false, add_end_of_text = false;
  bool add_space_prefix = false;  // of "llama": a blank before a text
  std::vector<std::string> notices = {};
};

// The vocabulary of a model of `vocab_size` tokens, no fewer than the tokenizer's. `pre` is the
// name for a way to cut words that this table does not know; "" where there is none. Unimplemented,
// naming the component or the tokens, for a tokenizer to which no algorithm is equal.
absl::StatusOr<GgufVocabulary> MakeGgufVocabulary(const TokenizerSpec& spec, int64_t vocab_size,
                                                  const std::string& pre);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_GGUF_VOCABULARY_H_
