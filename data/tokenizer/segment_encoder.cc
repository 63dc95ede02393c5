#include "data/tokenizer/segment_encoder.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "core/base/utf8.h"
#include "data/tokenizer/tokenizer.h"

namespace strake {
namespace {

// PCRE2's words are counted in 32 bits.
constexpr size_t kMaxSplitBytes = size_t{1} << 31;

// What tiktoken takes for blanks when it looks where bytes that are no text begin.
bool IsAllBlank(absl::string_view token) {
  return token.find_first_not_of(" \n\t") == absl::string_view::npos;
}

}  // namespace

size_t CharBegin(absl::string_view text, size_t size) {
  size_t begin = size;
  const auto is_inner = [&](size_t at) { return at < text.size() && IsUtf8Continuation(text[at]); };
  while (begin > 0 && size - begin < 4 && is_inner(begin)) --begin;
  return begin == 0 || is_inner(begin) ? size : begin;
}

size_t ChunkBytes(const Splitter& splitter, absl::string_view text) {
  if (!KnowsCuts(splitter)) return std::min(text.size(), kMaxSplitBytes);
  for (size_t size = kChunkBytes; size < text.size();
       size = std::min(4 * size, Tokenizer::kMaxWordBytes)) {
    if (const size_t cut = splitter.SafeCut(text.substr(0, size)); cut > 0) return cut;
    if (size == Tokenizer::kMaxWordBytes) return CharBegin(text, size);
  }
  return text.size();
}

void SegmentEncoder::Encode(absl::string_view segment, Place place) {
  if (segment.empty()) return;
  const auto encode = [&](absl::string_view piece, bool is_first) {
    const Place where = {place.begins_text && is_first, place.continues};
    if (parts_.spec.byte_level) {
      EncodeBytes(piece, where);
    } else {
      EncodeValid(piece, where);
    }
  };
  // Text that nothing normalizes is searched as it came, whatever bytes are in it.
  if (parts_.normalizers.empty()) return SplitAtNormalizedTokens(segment, encode);
  encode(segment, /*is_first=*/true);
}

template <typename EncodePiece>
void SegmentEncoder::SplitAtNormalizedTokens(absl::string_view text, const EncodePiece& encode) {
  AddedTokenMatcher::Cursor cursor;
  AddedTokenMatcher::Match match;
  size_t end = 0;
  while (parts_.normalized_added.Next(text, &cursor, &match)) {
    if (match.begin > end) encode(text.substr(end, match.begin - end), end == 0);
    tokens_.push_back(match.id);
    BeginWords();
    end = match.end;
  }
  if (end < text.size()) encode(text.substr(end), end == 0);
}

// Bytes that may be no UTF-8: the rule that tokenizer.h states.
void SegmentEncoder::EncodeBytes(absl::string_view segment, Place place) {
  while (!segment.empty()) {
    const size_t valid = ValidUtf8Prefix(segment);
    BeginWords();
    EncodeValid(segment.substr(0, valid), place);
    segment.remove_prefix(valid);
    if (segment.empty()) return;
    const size_t size = segment.size() <= Tokenizer::kMaxWordBytes
                            ? segment.size()
                            : CharBegin(segment, Tokenizer::kMaxWordBytes);
    EncodeRawWord(segment.substr(0, size));
    segment.remove_prefix(size);
    place = {false, true};
  }
}

// The last word's tokens, blanks before it if it begins with some, and `bytes` become one word.
void SegmentEncoder::EncodeRawWord(absl::string_view bytes) {
  const std::vector<std::string>& texts = parts_.spec.tokens;
  size_t begin = last_word_;
  if (begin < tokens_.size() && IsAllBlank(texts[tokens_[begin]])) {
    while (begin > first_word_ && IsAllBlank(texts[tokens_[begin - 1]])) --begin;
  }
  std::string word;
  for (size_t i = begin; i < tokens_.size(); ++i) word += texts[tokens_[i]];
  tokens_.resize(begin);
  word.append(bytes.data(), bytes.size());
  parts_.model.EncodeUncut(word, &cache_.merge_scratch, &tokens_);
}

void SegmentEncoder::EncodeValid(absl::string_view text, Place place) {
  if (parts_.normalizers.empty()) return EncodeNormalized(text, place.begins_text);
  std::string buffer;
  text = parts_.normalizers.Apply(text, place.continues, &buffer);
  SplitAtNormalizedTokens(text, [&](absl::string_view piece, bool is_first) {
    EncodeNormalized(piece, place.begins_text && is_first);
  });
}

void SegmentEncoder::EncodeNormalized(absl::string_view text, bool begins_text) {
  if (text.empty()) return;
  if (parts_.pre_tokenizers.splitter() != nullptr) {
    EncodeChunks(text, begins_text);
  } else if (parts_.pre_tokenizers.empty()) {
    EncodeParts(text);
  } else {
    EncodeChunk(text, text.size(), begins_text);
  }
}

void SegmentEncoder::EncodeChunks(absl::string_view text, bool begins_text) {
  while (!text.empty()) {
    const size_t size = ChunkBytes(*parts_.pre_tokenizers.splitter(), text);
    EncodeChunk(text.substr(0, size), text.size(), begins_text);
    text.remove_prefix(size);
    begins_text = false;
  }
}

void SegmentEncoder::EncodeChunk(absl::string_view chunk, size_t readable, bool begins_text) {
  if (parts_.pre_tokenizers.is_splitter()) {
    std::vector<uint32_t>& ends = cache_.word_ends;
    ends.clear();
    if (!parts_.pre_tokenizers.splitter()->Split(chunk, &ends).ok()) {
      ends = {static_cast<uint32_t>(chunk.size())};
    }
    EncodeWords(chunk, readable, ends);
    return;
  }
  TextPieces pieces;
  parts_.pre_tokenizers.Apply(chunk, begins_text, &pieces);
  for (const auto [begin, end] : pieces.ranges) {
    EncodeWord(pieces.text.substr(begin, end - begin), pieces.text.size() - begin);
  }
}

// The innermost loop. Tokens go through a small array, which costs less than a vector that grows.
void SegmentEncoder::EncodeWords(absl::string_view text, size_t readable,
                                 absl::Span<const uint32_t> ends) {
  constexpr size_t kBlock = 1024;
  std::array<int32_t, kBlock + 4> block;
  size_t count = 0, last_count = 0, begin = 0;
  const auto flush = [&] {
    last_word_ = tokens_.size() + last_count;
    tokens_.insert(tokens_.end(), block.begin(), block.begin() + count);
    count = last_count = 0;
  };
  for (const uint32_t end : ends) {
    const char* const word = text.data() + begin;
    const size_t size = end - begin;
    if (size <= ShortWord::kMaxBytes) {
      const auto* const entry = cache_.Find(ShortWord::Of(word, size, readable - begin));
      if (entry != nullptr) {
        last_count = count;
        std::memcpy(&block[count], entry->tokens, sizeof(entry->tokens));
        count += entry->count;
        if (count > kBlock) flush();
        begin = end;
        continue;
      }
    }
    flush();
    EncodeWord(text.substr(begin, size), readable - begin);
    begin = end;
  }
  if (count > 0) flush();
}

void SegmentEncoder::EncodeWord(absl::string_view word, size_t readable) {
  if (word.empty()) return;
  last_word_ = tokens_.size();
  const bool is_short = word.size() <= ShortWord::kMaxBytes;
  const ShortWord key =
      is_short ? ShortWord::Of(word.data(), word.size(), readable) : ShortWord{0, 0};
  if (const auto* const entry = is_short ? cache_.Find(key) : nullptr; entry != nullptr) {
    tokens_.insert(tokens_.end(), entry->tokens, entry->tokens + entry->count);
    return;
  }
  if (word.size() > WordCache::kMaxLongBytes) return EncodeNewWord(word);
  const absl::Span<const int32_t> known = cache_.FindLong(word);
  tokens_.insert(tokens_.end(), known.begin(), known.end());
  if (known.data() != nullptr) return;
  EncodeNewWord(word);
  const auto made = absl::MakeConstSpan(tokens_).subspan(last_word_);
  if (is_short && made.size() <= std::size(WordCache::Entry().tokens)) {
    cache_.Insert(key, made);
  } else {
    cache_.InsertLong(word, made);
  }
}

void SegmentEncoder::EncodeNewWord(absl::string_view word) {
  while (word.size() > Tokenizer::kMaxWordBytes) {
    const size_t size = CharBegin(word, Tokenizer::kMaxWordBytes);
    parts_.model.Encode(word.substr(0, size), &cache_.merge_scratch, &tokens_);
    word.remove_prefix(size);
  }
  parts_.model.Encode(word, &cache_.merge_scratch, &tokens_);
}

// Without pre-tokenizers the text is one word, cut where that changes nothing.
void SegmentEncoder::EncodeParts(absl::string_view text) {
  for (size_t begin = 0, end; begin < text.size(); begin = end) {
    end = parts_.model.PartEnd(text, begin);
    EncodeWord(text.substr(begin, end - begin), text.size() - begin);
  }
}

}  // namespace strake
