// Tokenizer: text to tokens and back, by byte-pair encoding.
//
//   STRAKE_ASSIGN_OR_RETURN(const auto tokenizer, OpenTokenizer("models/smollm2", {}));
//   WordCache cache;
//   std::vector<int32_t> tokens;
//   tokenizer->Encode("Hello world", &cache, &tokens);
//
// Text that is not UTF-8 goes the way of tiktoken's bytes: from the last word before the first byte
// that is no character, all bytes up to the next added token are one word. With normalizers, that
// is the next one which is not `normalized`. Without byte_level such a byte becomes its byte token,
// or else is an unknown character.
//
// A word has at most kMaxWordBytes: what is left of a longer one is split as if text began there.
// So memory is bounded whatever the text is. Where an expression that no function of ours knows
// takes PCRE2 too many steps, the piece of text that it was to cut is one word.
#ifndef STRAKE_DATA_TOKENIZER_TOKENIZER_H_
#define STRAKE_DATA_TOKENIZER_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "data/tokenizer/tokenizer_spec.h"
#include "data/tokenizer/word_cache.h"

namespace strake {

struct TokenizerParts;

// Bytes [begin, end) of a text.
struct TextSpan {
  size_t begin = 0, end = 0;
  bool operator==(const TextSpan&) const = default;
};

class Tokenizer {
 public:
  static constexpr size_t kMaxWordBytes = size_t{4} << 20;

  // InvalidArgument, naming what and the value, for a spec that contradicts itself: a merge of
  // tokens that do not exist, an expression that PCRE2 does not take.
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> Create(TokenizerSpec spec);
  ~Tokenizer();

  // The highest id plus 1, added tokens included.
  int64_t vocab_size() const;
  const TokenizerSpec& spec() const;
  // 32 hexadecimal digits: equal for tokenizers that give every text the same tokens, whatever the
  // format they were read from, as far as their specs are equal.
  std::string Hash() const;

  // Appends the tokens of `text`. Special tokens in it are matched; none are added. Equal for any
  // cache. Safe to call from many threads with a cache each.
  // `continues`: something went before, so what is put before a text is not put here.
  void Encode(absl::string_view text, WordCache* cache, std::vector<int32_t>* tokens,
              bool continues = false) const;

  // The same, and for each token of `text` whether it holds a byte of one of `spans`: appends 1 or
  // 0 to `inside`. A character that normalizers make of several holds the bytes of all of them, and
  // one that is put before a text goes with the text's first. Bytes that become no token are in
  // none.
  void EncodeWithSpans(absl::string_view text, absl::Span<const TextSpan> spans, WordCache* cache,
                       std::vector<int32_t>* tokens, std::vector<uint8_t>* inside) const;

  // A large p such that, whatever follows, the tokens of the whole are those of text[0, p) and then
  // those of text[p, ...), which `continues`. 0 where there is none. For texts that come in parts.
  size_t SafeCut(absl::string_view text) const;

  // The bytes of the tokens, after the spec's decoders. An id that is no token gives nothing.
  std::string Decode(absl::Span<const int32_t> tokens, bool skip_special) const;

  // The token of this text: an added one's, else one of the vocabulary.
  std::optional<int32_t> Find(absl::string_view token) const;
  // Whether it is an added token that is no text.
  bool IsSpecial(int32_t token) const;
  // The token's number of bytes as it stands in text: 0 for special ones.
  int64_t NumBytes(int32_t token) const;

 private:
  friend class StreamDecoder;
  explicit Tokenizer(std::unique_ptr<const TokenizerParts> parts);

  std::unique_ptr<const TokenizerParts> parts_;
};

// Text of tokens that come one by one: what is printed ends with a whole character.
class StreamDecoder {
 public:
  // `tokenizer` must outlive it.
  StreamDecoder(const Tokenizer* tokenizer, bool skip_special);
  // What can be printed now that the token has come.
  std::string Add(int32_t token);
  // What is left: bytes of characters that were never completed, as U+FFFD.
  std::string End();

 private:
  bool TrimBegin();
  size_t TrimmedEnd() const;

  const Tokenizer* tokenizer_;
  bool skip_special_;
  bool is_first_ = true;
  int64_t trims_left_;
  std::string text_;  // not yet printed
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_TOKENIZER_H_
