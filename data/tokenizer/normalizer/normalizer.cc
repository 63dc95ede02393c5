#include "data/tokenizer/normalizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "data/tokenizer/normalizer/normalizer_chars_map.h"
#include "data/tokenizer/normalizer/normalizer_unicode_form.h"
#include "data/tokenizer/text_chars.h"
#include "data/tokenizer/words/pcre2_splitter.h"

namespace strake {
namespace {

using StepPointer = std::unique_ptr<const NormalizerStep>;

class Prepend : public NormalizerStep {
 public:
  explicit Prepend(std::string content) : content_(std::move(content)) {}
  bool Apply(absl::string_view text, bool continues, std::string* result) const override {
    if (text.empty() || continues) return false;
    result->assign(content_);
    result->append(text.data(), text.size());
    return true;
  }

 private:
  const std::string content_;
};

class Replace : public NormalizerStep {
 public:
  explicit Replace(const Normalizer& spec) : pattern_(spec.pattern), content_(spec.content) {}

  bool Apply(absl::string_view text, bool /*continues*/, std::string* result) const override {
    size_t at = text.find(pattern_);
    if (pattern_.empty() || at == absl::string_view::npos) return false;
    result->clear();
    size_t copied = 0;
    for (; at != absl::string_view::npos; at = text.find(pattern_, copied)) {
      result->append(text.data() + copied, at - copied);
      result->append(content_);
      copied = at + pattern_.size();
    }
    result->append(text.data() + copied, text.size() - copied);
    return true;
  }

  // A longer pattern might hold a blank after something else.
  bool cuts_at_blanks() const override { return pattern_.size() <= 1; }

 private:
  const std::string pattern_, content_;
};

class ReplaceRegex : public NormalizerStep {
 public:
  ReplaceRegex(std::unique_ptr<const RegularExpression> expression, std::string content)
      : expression_(std::move(expression)), content_(std::move(content)) {}

  bool Apply(absl::string_view text, bool /*continues*/, std::string* result) const override {
    std::vector<RegularExpression::Match> matches;
    // A text in which the search takes too many steps stays as it is.
    if (!expression_->FindMatches(text, &matches).ok() || matches.empty()) return false;
    result->clear();
    size_t copied = 0;
    for (const auto& match : matches) {
      result->append(text.data() + copied, match.begin - copied);
      result->append(content_);
      copied = match.end;
    }
    result->append(text.data() + copied, text.size() - copied);
    return true;
  }
  bool cuts_at_blanks() const override { return false; }

 private:
  const std::unique_ptr<const RegularExpression> expression_;
  const std::string content_;
};

class Lowercase : public NormalizerStep {
 public:
  bool Apply(absl::string_view text, bool /*continues*/, std::string* result) const override {
    result->clear();
    const char* const end = text.data() + text.size();
    for (const char* at = text.data(); at != end;) {
      const Utf8Char c = DecodeUtf8(at, end);
      if (c.num_bytes == 0) {
        result->push_back(*at++);
        continue;
      }
      AppendLower(static_cast<utf8proc_int32_t>(c.code_point), result);
      at += c.num_bytes;
    }
    return *result != text;
  }

 private:
  static void AppendLower(utf8proc_int32_t c, std::string* out) {
    utf8proc_uint8_t bytes[4];
    const auto size = utf8proc_encode_char(utf8proc_tolower(c), bytes);
    out->append(reinterpret_cast<const char*>(bytes), size);
    // The one character whose lowercase has two: U+0130 becomes "i" and a dot above.
    if (c == 0x130) out->append("\xCC\x87");
  }
};

class Strip : public NormalizerStep {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  bool Apply(absl::string_view text, bool continues, std::string* result) const override {
    absl::string_view rest = text;
    if (left_ && !continues) rest.remove_prefix(LeadingWhiteSpace(rest));
    if (right_) rest.remove_suffix(TrailingWhiteSpace(rest));
    if (rest.size() == text.size()) return false;
    result->assign(rest.data(), rest.size());
    return true;
  }

 private:
  const bool left_, right_;
};

class CollapseBlanks : public NormalizerStep {
 public:
  explicit CollapseBlanks(std::string mark) : mark_(std::move(mark)) {}

  bool Apply(absl::string_view text, bool continues, std::string* result) const override {
    result->clear();
    bool follows_blank = !continues;
    for (const char c : text) {
      if (c != ' ' || !follows_blank) result->push_back(c);
      follows_blank = c == ' ';
    }
    while (absl::EndsWith(*result, " ") || (!mark_.empty() && absl::EndsWith(*result, mark_))) {
      result->resize(result->size() - (result->back() == ' ' ? 1 : mark_.size()));
    }
    return *result != text;
  }

 private:
  const std::string mark_;
};

absl::StatusOr<StepPointer> MakeStep(const Normalizer& spec) {
  using Kind = Normalizer::Kind;
  switch (spec.kind) {
    case Kind::kNfc:
    case Kind::kNfd:
    case Kind::kNfkc:
    case Kind::kNfkd:
      return MakeUnicodeForm(spec.kind);
    case Kind::kLowercase:
      return std::make_unique<Lowercase>();
    case Kind::kPrepend:
      return std::make_unique<Prepend>(spec.content);
    case Kind::kReplace:
      return std::make_unique<Replace>(spec);
    case Kind::kReplaceRegex: {
      STRAKE_ASSIGN_OR_RETURN(auto expression, RegularExpression::Compile(spec.pattern));
      return std::make_unique<ReplaceRegex>(std::move(expression), spec.content);
    }
    case Kind::kStrip:
      return std::make_unique<Strip>(spec.left, spec.right);
    case Kind::kCharsMap:
      return MakeCharsMap(spec.content);
    case Kind::kCollapseBlanks:
      return std::make_unique<CollapseBlanks>(spec.content);
  }
  return absl::InvalidArgumentError("no such normalizer");
}

}  // namespace

absl::StatusOr<NormalizerChain> NormalizerChain::Create(absl::Span<const Normalizer> normalizers) {
  NormalizerChain chain;
  for (const Normalizer& normalizer : normalizers) {
    STRAKE_ASSIGN_OR_RETURN(StepPointer step, MakeStep(normalizer));
    chain.steps_.push_back(std::move(step));
  }
  return chain;
}

bool NormalizerChain::cuts_at_blanks() const {
  return std::all_of(steps_.begin(), steps_.end(),
                     [](const StepPointer& step) { return step->cuts_at_blanks(); });
}

absl::string_view NormalizerChain::Apply(absl::string_view text, bool continues,
                                         std::string* buffer) const {
  std::string next;
  for (const StepPointer& step : steps_) {
    if (!step->Apply(text, continues, &next)) continue;
    buffer->swap(next);
    text = *buffer;
  }
  return text;
}

}  // namespace strake
