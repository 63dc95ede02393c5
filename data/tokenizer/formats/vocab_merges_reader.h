// vocab.json and merges.txt: GPT-2's format, also named encoder.json and vocab.bpe.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_VOCAB_MERGES_READER_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_VOCAB_MERGES_READER_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/formats/bpe_vocabulary.h"
#include "data/tokenizer/tokenizer_spec.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

// `merges` has a merge on each line, after a line that may begin with "#version". Paths are for
// messages. InvalidArgument, naming the file and the token or the line, for what is no such file.
absl::StatusOr<BpeVocabulary> ReadVocabMerges(const nlohmann::json& vocab,
                                              const std::string& vocab_path,
                                              absl::string_view merges,
                                              const std::string& merges_path);

// A byte-level spec of the vocabulary. The files do not say how a text is cut into words: a
// tokenizer_config.json beside them names the class that does. Takes GPT2Tokenizer and
// Qwen2Tokenizer, and their fast forms; InvalidArgument for others.
absl::StatusOr<TokenizerSpec> SpecOfClass(const std::string& tokenizer_class);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_VOCAB_MERGES_READER_H_
