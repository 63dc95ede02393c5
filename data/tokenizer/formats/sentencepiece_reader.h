// SentencePiece's models (*.model): BPE ones.
//
// Kudo and Richardson, "SentencePiece: A simple and language independent subword tokenizer and
// detokenizer for Neural Text Processing", 2018.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_SENTENCEPIECE_READER_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_SENTENCEPIECE_READER_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/tokenizer_spec.h"

namespace strake {

// `bytes` is the file, a serialized message; `path` is for messages. The control pieces become
// special tokens, which SentencePiece itself does not look for in text. InvalidArgument, naming the
// piece or the byte, for a broken file, a model type other than BPE, and settings that
// TokenizerSpec cannot express.
absl::StatusOr<TokenizerSpec> ParseSentencePieceModel(absl::string_view bytes,
                                                      const std::string& path);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_SENTENCEPIECE_READER_H_
