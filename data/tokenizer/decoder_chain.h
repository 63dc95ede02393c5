// DecoderChain: the text of tokens, as a spec's decoders say.
//
// What decoders do to one token is done once, when the chain is made. What they do to the whole
// text is left: blanks go at its two ends.
#ifndef STRAKE_DATA_TOKENIZER_DECODER_CHAIN_H_
#define STRAKE_DATA_TOKENIZER_DECODER_CHAIN_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/tokenizer_spec.h"

namespace strake {

class DecoderChain {
 public:
  // `content`, removed up to `count` times.
  struct Trim {
    std::string content = {};
    int64_t count = 0;
  };

  // InvalidArgument for decoders in an order that cannot be done token by token.
  static absl::StatusOr<DecoderChain> Create(const TokenizerSpec& spec);

  // The bytes of a token, before trimming. An id that is no token has none.
  absl::string_view Text(int32_t token, bool is_first) const;
  const Trim& trim_begin() const { return trim_begin_; }
  const Trim& trim_end() const { return trim_end_; }

 private:
  // The texts of all tokens, one after the other.
  struct Texts {
    std::string bytes = {};
    std::vector<size_t> ends = {};
    absl::string_view operator[](int32_t token) const;
  };

  Texts texts_;
  Texts first_texts_;  // empty: those of the first token are no others
  Trim trim_begin_, trim_end_;
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_DECODER_CHAIN_H_
