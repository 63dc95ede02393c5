// Tokenizer::EncodeWithSpans(): where in the text the tokens stand, which Encode() need not know.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/strip.h"
#include "core/base/utf8.h"
#include "data/tokenizer/segment_encoder.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/tokenizer_parts.h"

namespace strake {
namespace {

bool BeginsChar(absl::string_view text, size_t at) {
  return at >= text.size() || !IsUtf8Continuation(text[at]);
}

bool Overlap(TextSpan a, TextSpan b) { return std::max(a.begin, b.begin) < std::min(a.end, b.end); }

// Finds where the tokens of a normalized text end in it, by the tokens' own texts.
class TokenAligner {
 public:
  explicit TokenAligner(const TokenizerParts& parts) : parts_(parts) {
    for (const PreTokenizer& step : parts.spec.pre_tokenizers) {
      if (step.kind == PreTokenizer::Kind::kMetaspace) blank_ = step.pattern;
      puts_blank_ |= step.kind == PreTokenizer::Kind::kMetaspace || step.add_prefix_space;
    }
  }

  std::vector<size_t> Ends(absl::string_view text, absl::Span<const int32_t> tokens) const {
    std::vector<size_t> ends;
    size_t at = 0;
    for (size_t i = 0; i < tokens.size(); ++i) {
      at = tokens[i] == parts_.spec.unknown ? EndOfUnknown(text, at, tokens.subspan(i + 1))
                                            : EndOf(text, at, tokens[i]);
      ends.push_back(at);
    }
    return ends;
  }

 private:
  // The token's text as it stands in the normalized one.
  std::string Text(int32_t token) const {
    const std::vector<int32_t>& bytes = parts_.spec.byte_tokens;
    const auto byte = std::find(bytes.begin(), bytes.end(), token);
    if (byte != bytes.end()) return std::string(1, static_cast<char>(byte - bytes.begin()));
    for (const AddedToken& added : parts_.spec.added) {
      if (added.id != token || added.verbatim || !added.normalized) continue;
      std::string buffer;
      return std::string(parts_.normalizers.Apply(added.text, /*continues=*/false, &buffer));
    }
    return parts_.spec.tokens[token];
  }

  // Where the token ends that stands here, if it does.
  std::optional<size_t> EndAt(absl::string_view text, size_t at, absl::string_view token) const {
    while (!token.empty()) {
      if (at == text.size()) return std::nullopt;
      if (text[at] != ' ' || blank_.empty() || !absl::ConsumePrefix(&token, blank_)) {
        if (text[at] != token[0]) return std::nullopt;
        token.remove_prefix(1);
      }
      ++at;
    }
    return at;
  }

  // The same here or after text that became no token; here if it is nowhere.
  size_t EndOf(absl::string_view text, size_t at, int32_t token) const {
    const std::string token_text = Text(token);
    if (const auto end = EndAt(text, at, token_text)) return *end;
    // Perhaps without a blank that was put before the text.
    absl::string_view rest = token_text;
    if (puts_blank_ && absl::ConsumePrefix(&rest, blank_.empty() ? " " : blank_)) {
      if (const auto end = EndAt(text, at, rest)) return *end;
    }
    for (size_t place = at; place < text.size(); ++place) {
      if (const auto end = EndAt(text, place, token_text)) return *end;
    }
    return at;
  }

  // Characters without a token, up to where the next token stands.
  size_t EndOfUnknown(absl::string_view text, size_t at, absl::Span<const int32_t> rest) const {
    if (rest.empty()) return text.size();
    const bool next_is_unknown = rest[0] == parts_.spec.unknown;
    const std::string next = Text(rest[0]);
    while (at < text.size()) {
      do ++at;
      while (!BeginsChar(text, at));
      if (next_is_unknown || EndAt(text, at, next).has_value()) return at;
    }
    return at;
  }

  const TokenizerParts& parts_;
  std::string blank_;        // what stands for a blank in tokens alone
  bool puts_blank_ = false;  // before a text
};

// One piece of text between added tokens: from its bytes to those of its normalized form.
class NormalizedPiece {
 public:
  NormalizedPiece(const TokenizerParts& parts, absl::string_view piece)
      : parts_(parts), piece_(piece) {
    text_ = std::string(Normalize(piece));
  }

  absl::string_view text() const { return text_; }

  TextSpan Map(TextSpan span) {
    if (parts_.normalizers.empty()) return span;
    return {span.begin == 0 ? 0 : Map(span.begin).begin,
            span.end >= piece_.size() ? text_.size() : Map(span.end).end};
  }

 private:
  absl::string_view Normalize(absl::string_view text) {
    if (parts_.normalizers.empty()) return text;
    return parts_.normalizers.Apply(text, /*continues=*/false, &buffer_);
  }

  // Where the bytes before `at` end: at a place, or in a character that those behind them changed.
  TextSpan Map(size_t at) {
    const absl::string_view before = Normalize(piece_.substr(0, at));
    const size_t size = std::min(text_.size(), before.size());
    const auto end = std::mismatch(text_.begin(), text_.begin() + size, before.begin()).first;
    size_t same = end - text_.begin();
    if (same == before.size()) return {same, same};
    while (!BeginsChar(text_, same)) --same;
    size_t next = std::min(same + 1, text_.size());
    while (!BeginsChar(text_, next)) ++next;
    return {same, next};
  }

  const TokenizerParts& parts_;
  const absl::string_view piece_;
  std::string text_, buffer_;
};

// Marks the tokens of a piece that hold bytes of `span`, both in bytes of the piece.
void MarkInPiece(const TokenizerParts& parts, absl::string_view piece, TextSpan span,
                 absl::Span<const int32_t> tokens, absl::Span<uint8_t> inside) {
  NormalizedPiece normalized(parts, piece);
  const std::vector<size_t> ends = TokenAligner(parts).Ends(normalized.text(), tokens);
  span = normalized.Map(span);
  for (size_t i = 0; i < ends.size(); ++i) {
    const size_t begin = i == 0 ? 0 : ends[i - 1];
    // A token without a byte, such as a blank that was put before the text, goes with what follows.
    if (Overlap({begin, std::max(ends[i], begin + 1)}, span)) inside[i] = 1;
  }
}

}  // namespace

void Tokenizer::EncodeWithSpans(absl::string_view text, absl::Span<const TextSpan> spans,
                                WordCache* cache, std::vector<int32_t>* tokens,
                                std::vector<uint8_t>* inside) const {
  cache->BeginUse(parts_->number);
  SegmentEncoder encoder(*parts_, cache, tokens);
  const auto mark = [&](TextSpan piece, size_t first_token) {
    const auto made = absl::MakeConstSpan(*tokens).subspan(first_token);
    inside->resize(inside->size() + made.size());
    const auto marks = absl::MakeSpan(*inside).last(made.size());
    for (const TextSpan span : spans) {
      if (!Overlap(span, piece)) continue;
      const TextSpan part = {std::max(span.begin, piece.begin) - piece.begin,
                             std::min(span.end, piece.end) - piece.begin};
      MarkInPiece(*parts_, text.substr(piece.begin, piece.end - piece.begin), part, made, marks);
    }
  };
  const auto encode = [&](TextSpan piece) {
    const size_t first_token = tokens->size();
    encoder.Encode(text.substr(piece.begin, piece.end - piece.begin),
                   {/*begins_text=*/piece.begin == 0, /*continues=*/false});
    mark(piece, first_token);
  };
  AddedTokenMatcher::Cursor cursor;
  AddedTokenMatcher::Match match;
  size_t end = 0;
  while (parts_->raw_added.Next(text, &cursor, &match)) {
    encode({end, match.begin});
    tokens->push_back(match.id);
    const TextSpan place = {match.begin, match.end};
    inside->push_back(std::any_of(spans.begin(), spans.end(),
                                  [&](TextSpan span) { return Overlap(span, place); }));
    end = match.end;
  }
  encode({end, text.size()});
}

}  // namespace strake
