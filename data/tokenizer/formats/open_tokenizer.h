// OpenTokenizer: a tokenizer from the files that models ship.
//
//   tokenizer.json              Hugging Face's tokenizers
//   vocab.json + merges.txt     GPT-2's (also encoder.json + vocab.bpe)
//   tekken.json                 Mistral's
//   *.model, *.model.v3         SentencePiece (BPE), or tiktoken's ranks
//   *.tiktoken                  tiktoken's ranks
//
// The content of a file decides which it is. Of a directory it is the first of these that it holds.
// tokenizer_config.json, generation_config.json and config.json beside the file say which tokens
// begin and end a text, added_tokens.json and tokenizer_config.json which are added to vocab.json.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_OPEN_TOKENIZER_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_OPEN_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/tokenizer_spec.h"

namespace strake {

struct TokenizerOptions {
  // The regular expression of tiktoken's ranks that no table knows.
  std::string pattern = {};
};

// Returns an error that names the file, and the component, token or line in it that cannot be read.
absl::StatusOr<TokenizerSpec> ReadTokenizerSpec(const std::string& path,
                                                const TokenizerOptions& options);
absl::StatusOr<std::unique_ptr<const Tokenizer>> OpenTokenizer(const std::string& path,
                                                               const TokenizerOptions& options);

// Whether a directory holds a tokenizer's files.
bool HoldsTokenizer(const std::string& directory);

// The vocabulary of a model of bytes.
inline constexpr int64_t kByteVocabSize = 256;
// Its tokenizer: token i is byte i, and nothing else. It has no end of text.
TokenizerSpec ByteTokenizerSpec();

// InvalidArgument, naming path and both sizes, for a tokenizer of more tokens than the model.
absl::Status CheckTokenizerFitsModel(const std::string& path, int64_t num_tokens,
                                     int64_t vocab_size);

// Where a model's tokenizer may be.
struct ModelTokenizerPlaces {
  std::string given = {};                     // file or directory that a user names; "": none
  std::vector<std::string> directories = {};  // otherwise the first that holds one; "" holds none
};

// The path of the tokenizer; "" where the places have none.
std::string FindModelTokenizer(const ModelTokenizerPlaces& places);

// Opens the tokenizer of a model of `vocab_size` tokens. Where the places have none, it is null, or
// for a model of bytes ByteTokenizerSpec()'s. Returns the errors of OpenTokenizer() and of
// CheckTokenizerFitsModel().
absl::StatusOr<std::unique_ptr<const Tokenizer>> OpenModelTokenizer(
    const ModelTokenizerPlaces& places, int64_t vocab_size, const TokenizerOptions& options);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_OPEN_TOKENIZER_H_
