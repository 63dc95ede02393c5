// Words of known patterns: what the alternatives of each match, as functions of the place where a
// word begins. They differ in a few rules, which are data.
#ifndef STRAKE_DATA_TOKENIZER_WORDS_WORD_RULES_H_
#define STRAKE_DATA_TOKENIZER_WORDS_WORD_RULES_H_

#include <algorithm>
#include <bit>
#include <cstdint>

#include "data/tokenizer/words/byte_masks.h"
#include "data/tokenizer/words/char_scanner.h"
#include "data/tokenizer/words/unicode.h"

namespace strake {

// How a pattern of GPT-2's kind cuts words.
struct WordRules {
  enum class Contractions : uint8_t {
    kNone,
    kLowerCase,  // 's|'t|'re|'ve|'m|'ll|'d, first
    kAnyCase,    // (?i:...) of them, first
    kSuffix,     // (?i:...)? at the end of a word of letters
  };
  enum class Letters : uint8_t {
    kLetters,   // \p{L}+
    kAndMarks,  // [\p{L}\p{M}]+
    kByCase,    // upper-case ones before lower-case ones; o200k's first two alternatives
  };
  enum class Tail : uint8_t { kNone, kLineEnds, kLineEndsAndSlashes };

  Contractions contractions;
  Letters letters;
  // Before letters: [^\r\n\p{L}\p{N}]? or a blank.
  bool any_prefix;
  // \p{N}{1,n}; 0: " ?\p{N}+".
  int max_digits;
  // After " ?[^\s\p{L}\p{N}]+".
  Tail tail;
  // \s*[\r\n]+ before \s+(?!\S).
  bool line_ends;
  // \s++$ before both.
  bool whole_at_end;
};

inline bool IsLineEnd(char32_t c) { return c == '\r' || c == '\n'; }

// \s++$ if `whole_at_end`, \s*[\r\n]+ if `line_ends`, \s+(?!\S) and \s+, at white space.
inline const char* WhiteSpaceEnd(const CharScanner& scan, bool line_ends, bool whole_at_end,
                                 const char* p, const char* end) {
  const char* last = p;
  const char* after_line_end = nullptr;
  const char* run_end = p;
  while (run_end < end) {
    const ScannedChar c = scan.At(run_end);
    if (c.char_class != kWhiteSpace) break;
    last = run_end;
    run_end = c.end;
    if (IsLineEnd(c.code_point)) after_line_end = c.end;
  }
  if (whole_at_end && run_end == end) return end;
  if (line_ends && after_line_end != nullptr) return after_line_end;
  // The last one begins the next word, unless it is the only one or nothing follows.
  return run_end == end || last == p ? run_end : last;
}

inline const char* SkipTail(WordRules::Tail tail, const char* p, const char* end) {
  if (tail == WordRules::Tail::kNone) return p;
  const bool slashes = tail == WordRules::Tail::kLineEndsAndSlashes;
  while (p < end && (IsLineEnd(*p) || (slashes && *p == '/'))) ++p;
  return p;
}

// The end of the contraction at `p`, or null.
template <bool kAnyCase>
const char* ContractionEnd(const char* p, const char* end) {
  if (end - p < 2 || *p != '\'') return nullptr;
  const auto letter = [p](int i) -> char { return kAnyCase ? p[i] | 0x20 : p[i]; };
  const char first = letter(1);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return p + 2;
  if (end - p < 3) return nullptr;
  // U+017F, the long s, is an s to (?i).
  if (kAnyCase && p[1] == '\xC5' && p[2] == '\xBF') return p + 3;
  const char second = letter(2);
  const bool is_one = ((first == 'r' || first == 'v') && second == 'e') ||  //
                      (first == 'l' && second == 'l');
  return is_one ? p + 3 : nullptr;
}

template <WordRules kRules>
class RuledWords {
 public:
  static constexpr bool kHasBlocks = true;

  // Bit i is set where a word begins at p + i, if p[0, 64) alone tells, and a word begins at `p`.
  // Bit 0 is not. Nothing is told of what comes after a character that is no ASCII, or after an
  // apostrophe, which may begin a contraction.
  static uint64_t BeginsInBlock(const char* p) {
    const ByteMasks m = ByteMasks::Of(p);
    if constexpr (kRules.any_prefix) return BeginsAfterAnyPrefix(m);
    const uint64_t runs = RunBegins(m.letters) | RunBegins(m.digits) | RunBegins(Marks(m));
    // A run takes a blank before it along. Of white space before it, the last one stands alone.
    const uint64_t begins = (runs & ~(m.blanks << 1)) | RunBegins(m.white_space) |
                            (m.white_space & ~m.white_space >> 1);
    return begins & KnownBegins(m, m.others);
  }

  // The end of the word that begins at `p`, which is before `end`.
  const char* End(const char* p, const char* end) const {
    const ScannedChar first = scan_.At(p);
    if (const char* e = FirstContractionEnd(p, end)) return e;
    if (const char* e = LettersEnd(p, first, end)) return e;
    if (const char* e = NumberEnd(p, first, end)) return e;
    if (const char* e = OthersEnd(p, first, end)) return e;
    return WhiteSpaceEnd(scan_, kRules.line_ends, kRules.whole_at_end, p, end);
  }

 private:
  using Contractions = WordRules::Contractions;
  using Letters = WordRules::Letters;
  static constexpr uint8_t kLetters =
      kRules.letters == Letters::kLetters ? kLetter : kLetter | kMark;
  static constexpr uint8_t kNeitherCase = kOtherLetter | kMark;
  // [^\s\p{L}\p{N}]
  static constexpr uint8_t kOthers =
      kPunctuation | kOtherChar | (kRules.letters == Letters::kAndMarks ? 0 : kMark);

  static uint64_t Marks(const ByteMasks& m) { return ~(m.letters | m.digits | m.white_space); }

  // BeginsInBlock() of patterns that have a rule of line ends as well.
  static uint64_t BeginsAfterAnyPrefix(const ByteMasks& m) {
    const uint64_t marks = Marks(m), after_blanks = m.blanks << 1;
    // Line ends after marks belong to them. The rest of the white space goes up to its last line
    // end; then comes what has none, whose last one begins the next word.
    const uint64_t tails = RunsFrom(marks << 1 & m.line_ends, m.line_ends);
    const uint64_t white = m.white_space & ~tails, plain = m.white_space & ~m.line_ends;
    const uint64_t plain_after_line_end = RunBegins(plain) & (m.line_ends & ~tails) << 1;
    const uint64_t white_begins =
        RunBegins(white) | plain_after_line_end | (plain & ~m.white_space >> 1);
    // Letters take along what stands before them, if a word begins there.
    const uint64_t mark_begins = RunBegins(marks) & ~after_blanks;
    const uint64_t prefixes = plain | (mark_begins & m.letters >> 1);
    // Among letters, a capital after a small one begins a word where case counts.
    const uint64_t turns = m.capitals & (m.letters & ~m.capitals) << 1;
    const uint64_t letter_begins = (RunBegins(m.letters) & ~(prefixes << 1)) |
                                   (kRules.letters == Letters::kByCase ? turns : 0);
    // A second word of digits begins at the fourth.
    const uint64_t pairs = m.digits & m.digits << 1;
    const uint64_t fourths = kRules.max_digits == 1 ? 0 : pairs & pairs << 2;
    const uint64_t digit_begins = kRules.max_digits == 1 ? m.digits : RunBegins(m.digits);
    // What follows a line end is no begin where another line end comes after it.
    const uint64_t has_line_end_after =
        (plain + plain_after_line_end) & ~plain & m.line_ends ? plain_after_line_end << 1 : 0;
    // A slash after a line end belongs to the word of marks, if that line end does.
    const uint64_t slashes_after =
        kRules.tail == WordRules::Tail::kLineEndsAndSlashes ? m.slashes & m.line_ends << 1 : 0;
    return (white_begins | mark_begins | letter_begins | digit_begins) &
           KnownBegins(m, m.others | fourths | has_line_end_after | slashes_after);
  }

  // Bits 1 and up, up to the first of `unknown`. Whether a word begins at white space depends on
  // all white space after it, but for the first one; elsewhere it depends on what comes before
  // alone.
  static uint64_t KnownBegins(const ByteMasks& m, uint64_t unknown) {
    const int num_known = unknown == 0 ? 64 : std::countr_zero(unknown);
    if (num_known < 2) return 0;
    const uint64_t before = ~uint64_t{0} >> (64 - num_known);
    const uint64_t last_others = ~m.white_space & before;
    const int num_begins = std::min<int>(num_known, std::bit_width(last_others) + 1);
    return (~uint64_t{0} >> (64 - num_begins)) & ~uint64_t{1};
  }

  static const char* FirstContractionEnd(const char* p, const char* end) {
    if (kRules.contractions == Contractions::kLowerCase) return ContractionEnd<false>(p, end);
    if (kRules.contractions == Contractions::kAnyCase) return ContractionEnd<true>(p, end);
    return nullptr;
  }

  static bool IsPrefix(ScannedChar c) {
    if (!kRules.any_prefix) return c.code_point == ' ';
    return !(c.char_class & (kLetter | kNumber)) && !IsLineEnd(c.code_point);
  }

  const char* LettersEnd(const char* p, ScannedChar first, const char* end) const {
    if constexpr (kRules.letters == Letters::kByCase) return CasedEnd(p, first, end);
    if (first.char_class & kLetters) return scan_.SkipLetters(first.end, end, kLetters);
    if (!IsPrefix(first) || first.end == end) return nullptr;
    const ScannedChar second = scan_.At(first.end);
    if (!(second.char_class & kLetters)) return nullptr;
    return scan_.SkipLetters(second.end, end, kLetters);
  }

  // o200k's words, and what follows them.
  const char* CasedEnd(const char* p, ScannedChar first, const char* end) const {
    const bool has_prefix = IsPrefix(first);
    const char* e = has_prefix ? LowerCasedEnd(first.end, end) : nullptr;
    if (e == nullptr && first.char_class & (kLetter | kMark)) e = LowerCasedEnd(p, end);
    if (e == nullptr) {
      const char* const letters = has_prefix ? first.end : p;
      e = scan_.Skip(letters, end, kUpperLetter);
      if (e == letters) return nullptr;
    }
    if (kRules.contractions != Contractions::kSuffix) return e;
    const char* const suffix_end = ContractionEnd<true>(e, end);
    return suffix_end != nullptr ? suffix_end : e;
  }

  // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+ at `p`, or null. Where no lower-case
  // letter follows the first part, that part gives back all after its last letter of neither case.
  const char* LowerCasedEnd(const char* p, const char* end) const {
    const char* after_neither = nullptr;
    while (p < end) {
      const ScannedChar c = scan_.At(p);
      if (c.char_class == kLowerLetter) return LowerRunEnd(c.end, end);
      if (!(c.char_class & (kUpperLetter | kNeitherCase))) break;
      p = c.end;
      if (c.char_class & kNeitherCase) after_neither = p;
    }
    return after_neither;
  }

  const char* LowerRunEnd(const char* p, const char* end) const {
    constexpr uint8_t kLower = kLowerLetter | kNeitherCase;
    return scan_.SkipLowerLetters(p, end, kLower);
  }

  const char* NumberEnd(const char* p, ScannedChar first, const char* end) const {
    if constexpr (kRules.max_digits == 0) {
      const char* const digits = first.code_point == ' ' ? first.end : p;
      const char* const e = scan_.Skip(digits, end, kNumber);
      return e == digits ? nullptr : e;
    }
    if (first.char_class != kNumber) return nullptr;
    return scan_.SkipAtMost(kRules.max_digits - 1, first.end, end, kNumber);
  }

  const char* OthersEnd(const char* p, ScannedChar first, const char* end) const {
    const char* const others = first.code_point == ' ' ? first.end : p;
    const char* const e = scan_.Skip(others, end, kOthers);
    return e == others ? nullptr : SkipTail(kRules.tail, e, end);
  }

  CharScanner scan_ = {};
};

// DeepSeek V3's third pattern. What it leaves unmatched is a word too.
class DeepSeekWords {
 public:
  static constexpr bool kHasBlocks = false;

  const char* End(const char* p, const char* end) const {
    if (const char* e = MatchEnd(p, end)) return e;
    do {
      p = scan_.At(p).end;
    } while (p < end && !Matches(p, end));
    return p;
  }

 private:
  static constexpr uint8_t kLetters = kLetter | kMark;

  const char* MatchEnd(const char* p, const char* end) const {
    const ScannedChar first = scan_.At(p);
    if (const char* e = PunctuatedEnd(p, first, end)) return e;
    if (first.char_class & kLetters) return scan_.SkipLetters(first.end, end, kLetters);
    if (IsPrefixOfLetters(first, end)) return scan_.SkipLetters(first.end, end, kLetters);
    if (const char* e = PunctuationEnd(p, first, end)) return e;
    return first.char_class == kWhiteSpace ? WhiteSpaceEnd(scan_, true, false, p, end) : nullptr;
  }

  bool Matches(const char* p, const char* end) const {
    const ScannedChar first = scan_.At(p);
    return first.char_class & (kLetters | kPunctuation | kWhiteSpace) ||
           IsPrefixOfLetters(first, end);
  }

  // [!-/:-@\[-`{-~][A-Za-z]+
  const char* PunctuatedEnd(const char* p, ScannedChar first, const char* end) const {
    if (first.char_class != kPunctuation || first.code_point >= 0x80) return nullptr;
    const char* const e = CharScanner::SkipAsciiLetters(p + 1, end);
    return e == p + 1 ? nullptr : e;
  }

  // [^\r\n\p{L}\p{P}\p{S}] before [\p{L}\p{M}].
  bool IsPrefixOfLetters(ScannedChar c, const char* end) const {
    return !(c.char_class & (kLetter | kPunctuation)) && !IsLineEnd(c.code_point) && c.end < end &&
           scan_.At(c.end).char_class & kLetters;
  }

  //  ?[\p{P}\p{S}]+[\r\n]*
  const char* PunctuationEnd(const char* p, ScannedChar first, const char* end) const {
    const char* const marks = first.code_point == ' ' ? first.end : p;
    const char* const e = scan_.Skip(marks, end, kPunctuation);
    return e == marks ? nullptr : SkipTail(WordRules::Tail::kLineEnds, e, end);
  }

  CharScanner scan_ = {};
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_WORDS_WORD_RULES_H_
