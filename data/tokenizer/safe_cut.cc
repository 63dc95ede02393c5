#include "data/tokenizer/safe_cut.h"

#include <algorithm>
#include <optional>

#include "core/base/utf8.h"
#include "data/tokenizer/segment_encoder.h"
#include "data/tokenizer/text_chars.h"
#include "data/tokenizer/tokenizer.h"

namespace strake {
namespace {

bool IsBlankCut(absl::string_view text, size_t at) {
  const uint8_t before = static_cast<uint8_t>(text[at - 1]);
  return text[at] == ' ' && before > ' ' && before < 0x7F;
}

class CutFinder {
 public:
  CutFinder(const TokenizerParts& parts, absl::string_view text) : parts_(parts), text_(text) {
    const PreTokenizerChain& chain = parts.pre_tokenizers;
    if (chain.is_splitter() && chain.cuts_at_blanks()) splitter_ = chain.splitter();
    cuts_words_ = chain.empty() ? parts.model.cuts_at_blank_marks() : chain.cuts_at_blanks();
  }

  size_t Find() const {
    if (!cuts_words_ || !parts_.normalizers.cuts_at_blanks()) return 0;
    // Normalized tokens are not looked for in the text as it came.
    if (!parts_.normalizers.empty() && parts_.normalized_added.has_inner_blank()) return 0;
    if (!parts_.spec.byte_level) return FindIn(text_);
    const size_t valid = ValidUtf8Prefix(text_);
    const size_t cut = FindIn(text_.substr(0, valid));
    return cut > 0 || valid == text_.size() ? cut : FindAfterBytes(valid);
  }

 private:
  size_t FindIn(absl::string_view text) const {
    if (const size_t cut = FindBlank(text); cut > 0) return cut;
    if (splitter_ == nullptr || !parts_.normalizers.empty()) return 0;
    if (const size_t cut = FindOther(text); cut > 0) return cut;
    // The encoder ends such a chunk there too.
    const size_t most = Tokenizer::kMaxWordBytes;
    if (text.size() <= most || splitter_->SafeCut(text.substr(0, most)) > 0) return 0;
    const size_t cut = CharBegin(text, most);
    return KeepsAddedTokens(cut) ? cut : 0;
  }

  size_t FindBlank(absl::string_view text) const {
    for (size_t at = text.size(); at-- > 1;) {
      if (IsBlankCut(text, at) && KeepsAddedTokens(at)) return at;
    }
    return 0;
  }

  size_t FindOther(absl::string_view text) const {
    size_t cut = splitter_->SafeCut(text);
    while (cut > 0 && !KeepsAddedTokens(cut)) cut = splitter_->SafeCut(text.substr(0, cut));
    return cut;
  }

  // After bytes that are no text the rest is one word, up to an added token or the longest word.
  size_t FindAfterBytes(size_t first_byte) const {
    const std::optional<AddedTokenMatcher::Match> match = FirstTokenPast(first_byte);
    const size_t most = first_byte + Tokenizer::kMaxWordBytes;
    if (match.has_value() && match->begin <= most) {
      return KeepsAddedTokens(match->end) ? match->end : 0;
    }
    if (text_.size() <= most) return 0;
    const size_t cut = first_byte + CharBegin(text_.substr(first_byte), Tokenizer::kMaxWordBytes);
    return KeepsAddedTokens(cut) ? cut : 0;
  }

  // The first added token that ends after `place`. Bytes that are no text are searched for tokens
  // of normalized text only if nothing is normalized.
  std::optional<AddedTokenMatcher::Match> FirstTokenPast(size_t place) const {
    size_t begin = 0, end = text_.size();  // between two raw tokens
    AddedTokenMatcher::Cursor cursor;
    AddedTokenMatcher::Match match;
    std::optional<AddedTokenMatcher::Match> raw;
    while (!raw.has_value() && parts_.raw_added.Next(text_, &cursor, &match)) {
      if (match.end > place) {
        raw = match;
        end = match.begin;
      } else {
        begin = match.end;
      }
    }
    if (!parts_.normalizers.empty()) return raw;
    const absl::string_view segment = text_.substr(begin, end - begin);
    cursor = {};
    while (parts_.normalized_added.Next(segment, &cursor, &match)) {
      if (begin + match.end > place) return {{begin + match.begin, begin + match.end, match.id}};
    }
    return raw;
  }

  bool KeepsAddedTokens(size_t at) const {
    return at < text_.size() && parts_.raw_added.MayCut(text_, at) &&
           parts_.normalized_added.MayCut(text_, at);
  }

  const TokenizerParts& parts_;
  const absl::string_view text_;
  const Splitter* splitter_ = nullptr;  // where it is all that happens to a text
  bool cuts_words_ = false;
};

}  // namespace

size_t SafeCut(const TokenizerParts& parts, absl::string_view text) {
  return CutFinder(parts, text).Find();
}

}  // namespace strake
