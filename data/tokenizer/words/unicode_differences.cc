#include "data/tokenizer/words/unicode_differences.h"

#include <algorithm>
#include <utility>

#include "core/base/utf8.h"
#include "data/tokenizer/words/pcre2_splitter.h"
#include "glog/logging.h"

namespace strake {
namespace {

// All code points but surrogates, and where each begins.
struct AllCodePoints {
  std::string text = {};
  std::vector<size_t> begin_of = std::vector<size_t>(kMaxCodePoint + 1);
};

AllCodePoints ListAll() {
  AllCodePoints all;
  for (char32_t c = 0; c <= kMaxCodePoint; ++c) {
    all.begin_of[c] = all.text.size();
    if (!IsSurrogate(c)) AppendUtf8(c, &all.text);
  }
  return all;
}

void SetClass(const AllCodePoints& all, const std::string& pattern, CharClass char_class,
              std::vector<CharClass>* classes) {
  std::vector<RegularExpression::Match> matches;
  const auto expression = RegularExpression::Compile(pattern);
  CHECK(expression.ok()) << expression.status();
  CHECK((*expression)->FindMatches(all.text, &matches).ok());
  for (const auto& match : matches) {
    // Surrogates begin where the next code point does.
    const auto next = std::upper_bound(all.begin_of.begin(), all.begin_of.end(), match.begin);
    CharClass& known = (*classes)[next - all.begin_of.begin() - 1];
    CHECK_EQ(known, 0) << "a code point has two classes";
    known = char_class;
  }
}

std::vector<CharClass> MakePcre2Classes() {
  const AllCodePoints all = ListAll();
  std::vector<CharClass> classes(kMaxCodePoint + 1, CharClass{});
  SetClass(all, R"([\p{Lu}\p{Lt}])", kUpperLetter, &classes);
  SetClass(all, R"(\p{Ll})", kLowerLetter, &classes);
  SetClass(all, R"([\p{Lm}\p{Lo}])", kOtherLetter, &classes);
  SetClass(all, R"(\p{M})", kMark, &classes);
  SetClass(all, R"(\p{N})", kNumber, &classes);
  SetClass(all, R"(\s)", kWhiteSpace, &classes);
  SetClass(all, R"([\p{P}\p{S}])", kPunctuation, &classes);
  SetClass(all, R"((?!\s)\p{C})", kOtherChar, &classes);
  return classes;
}

}  // namespace

const std::vector<CharClass>& Pcre2Classes() {
  static const auto* const classes = new std::vector<CharClass>(MakePcre2Classes());
  return *classes;
}

std::string WithoutDifferences(absl::string_view text) {
  std::string kept;
  const char* const end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    const Utf8Char c = DecodeUtf8(p, end);
    const bool differs =
        c.num_bytes > 0 && CharClasses::Get()[c.code_point] != Pcre2Classes()[c.code_point];
    const int num_bytes = std::max(1, c.num_bytes);
    if (!differs) kept.append(p, num_bytes);
    p += num_bytes;
  }
  return kept;
}

}  // namespace strake
