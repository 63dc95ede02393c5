// SegmentEncoder: the tokens of a text between added tokens.
#ifndef STRAKE_DATA_TOKENIZER_SEGMENT_ENCODER_H_
#define STRAKE_DATA_TOKENIZER_SEGMENT_ENCODER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "data/tokenizer/tokenizer_parts.h"
#include "data/tokenizer/word_cache.h"

namespace strake {

// Text is cut where it is safe into chunks of at least this many bytes, whose words stay in the
// processor's cache.
inline constexpr size_t kChunkBytes = size_t{32} << 10;

// The size of the first chunk of a text that a splitter is to cut.
size_t ChunkBytes(const Splitter& splitter, absl::string_view text);
// The largest p <= size that is no place within a character.
size_t CharBegin(absl::string_view text, size_t size);

class SegmentEncoder {
 public:
  SegmentEncoder(const TokenizerParts& parts, WordCache* cache, std::vector<int32_t>* tokens)
      : parts_(parts), cache_(*cache), tokens_(*tokens) {}

  // Where a segment stands.
  struct Place {
    bool begins_text;  // nothing was before it
    bool continues;    // a part of its text was encoded before
  };
  void Encode(absl::string_view segment, Place place);

 private:
  // Calls encode(piece, whether it is the first) for what lies between tokens of normalized text.
  template <typename EncodePiece>
  void SplitAtNormalizedTokens(absl::string_view text, const EncodePiece& encode);
  void EncodeBytes(absl::string_view segment, Place place);
  void EncodeValid(absl::string_view text, Place place);
  void EncodeNormalized(absl::string_view text, bool begins_text);
  void EncodeChunks(absl::string_view text, bool begins_text);
  void EncodeChunk(absl::string_view chunk, size_t readable, bool begins_text);
  // Words of `text` by their ends; `readable` bytes may be read from its beginning.
  void EncodeWords(absl::string_view text, size_t readable, absl::Span<const uint32_t> ends);
  void EncodeParts(absl::string_view text);
  void EncodeWord(absl::string_view word, size_t readable);
  void EncodeNewWord(absl::string_view word);
  void EncodeRawWord(absl::string_view bytes);
  // Words after the tokens so far join none of them.
  void BeginWords() { first_word_ = last_word_ = tokens_.size(); }

  const TokenizerParts& parts_;
  WordCache& cache_;
  std::vector<int32_t>& tokens_;
  size_t first_word_ = 0;  // the first token after the last added token
  size_t last_word_ = 0;   // the first token of the last word
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_SEGMENT_ENCODER_H_
