#include "data/tokenizer/normalizer/normalizer_unicode_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "core/base/utf8.h"

namespace strake {
namespace {

using CodePoints = std::vector<utf8proc_int32_t>;

bool Composes(Normalizer::Kind form) {
  return form == Normalizer::Kind::kNfc || form == Normalizer::Kind::kNfkc;
}

utf8proc_option_t Options(Normalizer::Kind form) {
  const bool compat = form == Normalizer::Kind::kNfkc || form == Normalizer::Kind::kNfkd;
  return static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                        (compat ? UTF8PROC_COMPAT : 0));
}

void AppendDecomposed(utf8proc_int32_t code_point, utf8proc_option_t options, CodePoints* out) {
  // The longest decomposition has 18 characters.
  std::array<utf8proc_int32_t, 32> parts;
  int last_class = 0;
  const auto count =
      utf8proc_decompose_char(code_point, parts.data(), parts.size(), options, &last_class);
  if (count < 0 || count > static_cast<utf8proc_ssize_t>(parts.size())) {
    out->push_back(code_point);
  } else {
    out->insert(out->end(), parts.begin(), parts.begin() + count);
  }
}

int CombiningClass(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

// Sorts each run of marks by class. utf8proc's own order takes quadratic time for long runs.
void SortMarks(CodePoints* text) {
  for (auto begin = text->begin(); begin != text->end();) {
    if (CombiningClass(*begin) == 0) {
      ++begin;
      continue;
    }
    const auto end =
        std::find_if(begin, text->end(), [](utf8proc_int32_t c) { return CombiningClass(c) == 0; });
    std::stable_sort(begin, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return CombiningClass(a) < CombiningClass(b);
    });
    begin = end;
  }
}

void Normalize(Normalizer::Kind form, absl::string_view text, CodePoints* out) {
  out->clear();
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at != end;) {
    const Utf8Char c = DecodeUtf8(at, end);
    AppendDecomposed(static_cast<utf8proc_int32_t>(c.code_point), Options(form), out);
    at += c.num_bytes;
  }
  SortMarks(out);
  if (!Composes(form)) return;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const auto size =
      utf8proc_normalize_utf32(out->data(), static_cast<utf8proc_ssize_t>(out->size()), options);
  if (size >= 0) out->resize(size);
}

// The characters before which a text may be cut, and which stay as they are where none follows that
// does not have both properties.
class StableChars {
 public:
  static const StableChars& Of(Normalizer::Kind form) {
    static const auto* const all = [] {
      auto* forms = new std::array<StableChars, 4>();
      for (const Normalizer::Kind form : {Normalizer::Kind::kNfc, Normalizer::Kind::kNfd,
                                          Normalizer::Kind::kNfkc, Normalizer::Kind::kNfkd}) {
        (*forms)[static_cast<int>(form)].Fill(form);
      }
      return forms;
    }();
    return (*all)[static_cast<int>(form)];
  }
  bool operator[](char32_t c) const { return c >= stable_.size() || stable_[c]; }

 private:
  // No character from here on has a decomposition or a combining class.
  static constexpr utf8proc_int32_t kEnd = 0x30000;

  void Fill(Normalizer::Kind form) {
    stable_.assign(kEnd, true);
    CodePoints parts;
    for (utf8proc_int32_t c = 0; c < kEnd; ++c) {
      if (IsSurrogate(c)) continue;
      parts.clear();
      AppendDecomposed(c, Options(form), &parts);
      if (CombiningClass(c) != 0 || CombiningClass(parts[0]) != 0) stable_[c] = false;
      if (parts.size() == 1 && parts[0] == c) continue;
      if (!Composes(form)) {
        stable_[c] = false;
        continue;
      }
      MarkSeconds(c);
      if (!ComposesBack(c, &parts)) stable_[c] = false;
    }
  }

  // What a character before may be composed with.
  void MarkSeconds(utf8proc_int32_t c) {
    CodePoints parts;
    AppendDecomposed(c, Options(Normalizer::Kind::kNfd), &parts);
    for (size_t i = 1; i < parts.size(); ++i) stable_[parts[i]] = false;
  }

  static bool ComposesBack(utf8proc_int32_t c, CodePoints* parts) {
    const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    const auto size = utf8proc_normalize_utf32(
        parts->data(), static_cast<utf8proc_ssize_t>(parts->size()), options);
    return size == 1 && (*parts)[0] == c;
  }

  std::vector<bool> stable_;
};

class UnicodeForm : public NormalizerStep {
 public:
  explicit UnicodeForm(Normalizer::Kind form) : form_(form), stable_(StableChars::Of(form)) {}

  bool Apply(absl::string_view text, bool /*continues*/, std::string* result) const override {
    size_t begin = 0, end = 0;
    if (!NextUnstable(text, 0, &begin, &end)) return false;
    result->clear();
    CodePoints code_points;
    size_t copied = 0;
    do {
      result->append(text.data() + copied, begin - copied);
      Normalize(form_, text.substr(begin, end - begin), &code_points);
      for (const utf8proc_int32_t c : code_points) AppendUtf8(c, result);
      copied = end;
    } while (NextUnstable(text, end, &begin, &end));
    result->append(text.data() + copied, text.size() - copied);
    return *result != text;
  }

 private:
  // Sets the next stretch that may change: from the stable character before to the next one.
  bool NextUnstable(absl::string_view text, size_t from, size_t* begin, size_t* end) const {
    const char* const last = text.data() + text.size();
    bool found = false;
    *begin = from;
    for (size_t i = from; i < text.size();) {
      const bool is_ascii = static_cast<uint8_t>(text[i]) < 0x80;
      const Utf8Char c = is_ascii ? Utf8Char{static_cast<char32_t>(text[i]), 1}
                                  : DecodeUtf8(text.data() + i, last);
      const bool is_invalid = c.num_bytes == 0;
      const bool is_stable = is_invalid || is_ascii || stable_[c.code_point];
      if (found && is_stable) {
        *end = i;
        return true;
      }
      // A stretch does not reach back over an invalid byte, which stays as it is.
      if (is_stable) *begin = is_invalid ? i + 1 : i;
      found = found || !is_stable;
      i += is_invalid ? 1 : c.num_bytes;
    }
    *end = text.size();
    return found;
  }

  const Normalizer::Kind form_;
  const StableChars& stable_;
};

}  // namespace

std::unique_ptr<const NormalizerStep> MakeUnicodeForm(Normalizer::Kind form) {
  return std::make_unique<UnicodeForm>(form);
}

}  // namespace strake
