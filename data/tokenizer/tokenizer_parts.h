// TokenizerParts: what a Tokenizer is made of.
#ifndef STRAKE_DATA_TOKENIZER_TOKENIZER_PARTS_H_
#define STRAKE_DATA_TOKENIZER_TOKENIZER_PARTS_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/added_token_matcher.h"
#include "data/tokenizer/byte_pair_model.h"
#include "data/tokenizer/decoder_chain.h"
#include "data/tokenizer/normalizer/normalizer.h"
#include "data/tokenizer/pre_tokenizer.h"
#include "data/tokenizer/tokenizer_spec.h"

namespace strake {

struct TokenizerParts {
  TokenizerSpec spec;
  uint64_t number = 0;  // of this tokenizer, in this process: WordCache's owner
  BytePairModel model;
  NormalizerChain normalizers;
  PreTokenizerChain pre_tokenizers;
  AddedTokenMatcher raw_added, normalized_added;
  DecoderChain decoder;
  absl::flat_hash_map<absl::string_view, int32_t> added_ids;
  std::vector<bool> is_special;
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_TOKENIZER_PARTS_H_
