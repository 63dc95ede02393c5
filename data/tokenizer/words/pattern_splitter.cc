#include "data/tokenizer/words/pattern_splitter.h"

#include <array>
#include <bit>
#include <cstddef>

#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "core/base/utf8.h"
#include "data/tokenizer/words/char_scanner.h"
#include "data/tokenizer/words/known_patterns.h"
#include "data/tokenizer/words/unicode.h"
#include "data/tokenizer/words/valid_text_splitter.h"
#include "data/tokenizer/words/word_rules.h"

namespace strake {
namespace {

using Contractions = WordRules::Contractions;
using Letters = WordRules::Letters;
using Tail = WordRules::Tail;

constexpr WordRules kGpt2 = {
    .contractions = Contractions::kLowerCase,
    .letters = Letters::kLetters,
    .any_prefix = false,
    .max_digits = 0,
    .tail = Tail::kNone,
    .line_ends = false,
    .whole_at_end = false,
};
constexpr WordRules kLlama3 = {
    .contractions = Contractions::kAnyCase,
    .letters = Letters::kLetters,
    .any_prefix = true,
    .max_digits = 3,
    .tail = Tail::kLineEnds,
    .line_ends = true,
    .whole_at_end = false,
};
constexpr WordRules kO200k = {
    .contractions = Contractions::kSuffix,
    .letters = Letters::kByCase,
    .any_prefix = true,
    .max_digits = 3,
    .tail = Tail::kLineEndsAndSlashes,
    .line_ends = true,
    .whole_at_end = false,
};

constexpr WordRules Cl100k() {
  WordRules rules = kLlama3;
  rules.whole_at_end = true;
  return rules;
}
constexpr WordRules Qwen2() {
  WordRules rules = kLlama3;
  rules.max_digits = 1;
  return rules;
}
constexpr WordRules Qwen35() {
  WordRules rules = Qwen2();
  rules.letters = Letters::kAndMarks;
  return rules;
}
constexpr WordRules Tekken() {
  WordRules rules = kO200k;
  rules.contractions = Contractions::kNone;
  rules.max_digits = 1;
  return rules;
}

// Stretches: what patterns before the last one of a sequence isolate, and what lies between. Each
// is a text of its own to the last pattern.
struct WholeText {
  const char* End(const char*, const char* end) const { return end; }
};

template <bool kIndividual>
class Numbers {
 public:
  const char* End(const char* p, const char* end) const {
    const ScannedChar first = scan_.At(p);
    if (first.char_class != kNumber) return NextNumber(p, end);
    return kIndividual ? first.end : scan_.Skip(first.end, end, kNumber);
  }

 private:
  const char* NextNumber(const char* p, const char* end) const {
    while ((p = CharScanner::SkipAsciiWithoutDigits(p, end)) < end) {
      const ScannedChar c = scan_.At(p);
      if (c.char_class == kNumber) break;
      p = c.end;
    }
    return p;
  }

  CharScanner scan_ = {};
};

// \p{N}{1,3} and then [\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+, which has no number.
class DeepSeekStretches {
 public:
  const char* End(const char* p, const char* end) const {
    const ScannedChar first = scan_.At(p);
    if (first.char_class == kNumber) return scan_.SkipAtMost(2, first.end, end, kNumber);
    return IsEastAsian(first.code_point) ? EastAsianEnd(first.end, end) : NextOfEither(p, end);
  }

 private:
  const char* EastAsianEnd(const char* p, const char* end) const {
    for (; p < end; p = scan_.At(p).end) {
      if (!IsEastAsian(scan_.At(p).code_point)) break;
    }
    return p;
  }
  const char* NextOfEither(const char* p, const char* end) const {
    while ((p = CharScanner::SkipAsciiWithoutDigits(p, end)) < end) {
      const ScannedChar c = scan_.At(p);
      if (c.char_class == kNumber || IsEastAsian(c.code_point)) break;
      p = c.end;
    }
    return p;
  }
  static bool IsEastAsian(char32_t c) {
    return (c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x30FF);
  }

  CharScanner scan_ = {};
};

// Appends to a vector by blocks: a word costs less so.
class EndsWriter {
 public:
  // An end is its distance from `origin`.
  EndsWriter(const char* origin, std::vector<uint32_t>* ends) : origin_(origin), ends_(ends) {}
  ~EndsWriter() { Flush(); }
  EndsWriter(const EndsWriter&) = delete;
  EndsWriter& operator=(const EndsWriter&) = delete;

  void Add(const char* end) {
    block_[size_++] = end - origin_;
    if (size_ == block_.size()) Flush();
  }

 private:
  void Flush() {
    ends_->insert(ends_->end(), block_.begin(), block_.begin() + size_);
    size_ = 0;
  }

  std::array<uint32_t, 512> block_;
  size_t size_ = 0;
  const char* origin_;
  std::vector<uint32_t>* ends_;
};

// The character before `p`, if it is a valid one.
Utf8Char CharBefore(const char* begin, const char* p) {
  for (int num_bytes = 1; num_bytes <= 4 && num_bytes <= p - begin; ++num_bytes) {
    const Utf8Char c = DecodeUtf8(p - num_bytes, p);
    if (c.num_bytes == num_bytes) return c;
  }
  return {0, 0};
}

// Whether a word ends between these two, in all known patterns and whatever stands around them:
//  * a blank begins a word unless another white space precedes it;
//  * letters and numbers end their word before any white space: line ends belong to punctuation;
//  * letters end it before punctuation, but for the apostrophe of a contraction.
bool IsWordEnd(Utf8Char before, Utf8Char after) {
  const CharClasses& classes = CharClasses::Get();
  const CharClass left = classes[before.code_point], right = classes[after.code_point];
  if (after.code_point == ' ' || after.code_point == '\t') return left != kWhiteSpace;
  if (right == kWhiteSpace) return left & (kLetter | kNumber);
  return right == kPunctuation && left & kLetter && after.code_point != '\'';
}

template <typename Stretches, typename Words, bool kCoversAll>
class PatternSplitter final : public ValidTextSplitter {
 public:
  size_t SafeCut(absl::string_view text) const override {
    const char* const begin = text.data();
    const char* const end = begin + text.size();
    for (const char* p = end - (text.empty() ? 0 : 1); p > begin; --p) {
      const Utf8Char after = DecodeUtf8(p, end);
      if (after.num_bytes == 0) continue;
      const Utf8Char before = CharBefore(begin, p);
      if (before.num_bytes > 0 && IsWordEnd(before, after)) return p - begin;
    }
    return 0;
  }
  bool covers_all() const override { return kCoversAll; }

 private:
  absl::Status SplitValid(absl::string_view text, uint32_t offset,
                          std::vector<uint32_t>* ends) const override {
    const Stretches stretches = {};
    const Words words = {};
    EndsWriter writer(text.data() - offset, ends);
    const char* p = text.data();
    for (const char* const end = p + text.size(); p < end;) {
      for (const char* const stretch_end = stretches.End(p, end); p < stretch_end;) {
        if constexpr (Words::kHasBlocks) p = AddBlocks(p, stretch_end, &writer);
        p = words.End(p, stretch_end);
        writer.Add(p);
      }
    }
    return absl::OkStatus();
  }

  // Adds what blocks tell of the words from `p` on. Returns where the next one begins, before
  // `end`.
  static const char* AddBlocks(const char* p, const char* end, EndsWriter* writer) {
    while (end - p >= 64 && eight_bytes::AreAscii(eight_bytes::Load(p))) {
      const uint64_t begins = Words::BeginsInBlock(p);
      if (begins == 0) break;
      for (uint64_t rest = begins; rest != 0; rest &= rest - 1) {
        writer->Add(p + std::countr_zero(rest));
      }
      p += std::bit_width(begins) - 1;
    }
    return p;
  }
};

template <typename Stretches, typename Words, bool kCoversAll>
std::unique_ptr<const Splitter> Make() {
  return std::make_unique<const PatternSplitter<Stretches, Words, kCoversAll>>();
}
template <WordRules kRules>
constexpr auto MakeRuled = Make<WholeText, RuledWords<kRules>, true>;

struct KnownSequence {
  std::vector<std::string> patterns;
  std::unique_ptr<const Splitter> (*make)();
};

std::vector<KnownSequence> MakeKnownSequences() {
  return {
      {{kGpt2Words}, MakeRuled<kGpt2>},
      {{kGpt2Possessive}, MakeRuled<kGpt2>},
      {{kLlama3Words}, MakeRuled<kLlama3>},
      {{kLlama3Possessive}, MakeRuled<kLlama3>},
      {{kCl100kWords}, MakeRuled<Cl100k()>},
      {{kQwen2Words}, MakeRuled<Qwen2()>},
      {{kQwen35Words}, MakeRuled<Qwen35()>},
      {{kO200kWords}, MakeRuled<kO200k>},
      {{kTekkenWords}, MakeRuled<Tekken()>},
      {{kDigitPattern, kGpt2Words}, Make<Numbers<true>, RuledWords<kGpt2>, false>},
      {{kDigitsPattern, kGpt2Words}, Make<Numbers<false>, RuledWords<kGpt2>, false>},
      {{kDeepSeekNumbers, kDeepSeekEastAsian, kDeepSeekWords},
       Make<DeepSeekStretches, DeepSeekWords, false>},
  };
}

const std::vector<KnownSequence>& KnownSequences() {
  static const auto* const known = new std::vector<KnownSequence>(MakeKnownSequences());
  return *known;
}

}  // namespace

std::string WithEscapedLineEnds(const std::string& pattern) {
  return absl::StrReplaceAll(pattern, {{"\r", "\\r"}, {"\n", "\\n"}});
}

const char kDigitPattern[] = R"(\p{N})";
const char kDigitsPattern[] = R"(\p{N}+)";

std::unique_ptr<const Splitter> MakePatternSplitter(absl::Span<const std::string> patterns) {
  std::vector<std::string> spelled;
  for (const std::string& pattern : patterns) spelled.push_back(WithEscapedLineEnds(pattern));
  for (const KnownSequence& known : KnownSequences()) {
    if (known.patterns == spelled) return known.make();
  }
  return nullptr;
}

std::vector<std::vector<std::string>> KnownPatterns() {
  std::vector<std::vector<std::string>> patterns;
  for (const KnownSequence& known : KnownSequences()) patterns.push_back(known.patterns);
  return patterns;
}

}  // namespace strake
