// BpeVocabulary: the tokens and merges of Hugging Face's files, by their text in the file.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_BPE_VOCABULARY_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_BPE_VOCABULARY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/tokenizer_spec.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

// Whether it is an integer from 0 to kMaxVocabSize - 1.
bool IsTokenId(const nlohmann::json& id);

class BpeVocabulary {
 public:
  // `vocab` is an object of ids by token. `where` begins each message. InvalidArgument, naming the
  // token, for an id that is none, or that two tokens have.
  static absl::StatusOr<BpeVocabulary> Create(const nlohmann::json& vocab, std::string where);

  std::optional<int32_t> Find(absl::string_view token) const;

  // The next merge, of the text "left right" or of two texts. InvalidArgument, naming the text, for
  // one that is no two tokens, or whose result is no token. `where` begins the message. A text that
  // begins with "#version" is no merge, and passed over.
  absl::Status AddMerge(absl::string_view pair, absl::string_view where);
  absl::Status AddMerge(absl::string_view left, absl::string_view right, absl::string_view where);

  // InvalidArgument, naming the token, if its id is another token's, or its text has another id. A
  // token that was added before stays as it is. Empty ones are left out, as Hugging Face does.
  absl::Status AddToken(AddedToken token, absl::string_view where);

  // Sets the spec's tokens, merges and added tokens; with its byte_level, the vocabulary's tokens
  // of byte letters become bytes.
  void MoveTo(TokenizerSpec* spec);

 private:
  std::vector<std::string> tokens_;
  absl::flat_hash_map<std::string, int32_t> ids_;
  std::vector<Merge> merges_;
  std::vector<AddedToken> added_;
  absl::flat_hash_set<int32_t> added_ids_;
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_BPE_VOCABULARY_H_
