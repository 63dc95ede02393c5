#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/tokenizer/words/pcre2_splitter.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "data/tokenizer/words/valid_text_splitter.h"
#include "glog/logging.h"
#include "pcre2.h"

namespace strake {
namespace {

constexpr uint32_t kMinSteps = 10'000'000;
constexpr size_t kStepsPerByte = 64;
constexpr size_t kMaxStackBytes = size_t{64} << 20;
constexpr uint32_t kMaxHeapKib = 1 << 20;
constexpr size_t kMaxPatternBytes = size_t{1} << 16;

// The inside of a class. PCRE2's own \s has U+180E as well, which is no white space since Unicode
// 6.3.
constexpr char kWhiteSpaceClass[] = R"(\t-\r\x{85}\p{Z})";

bool IsHexDigit(char c) { return absl::ascii_isxdigit(static_cast<unsigned char>(c)); }

// Rewrites a pattern as the tokenizers' libraries read it for PCRE2.
class PatternTranslator {
 public:
  explicit PatternTranslator(const std::string& pattern) : pattern_(pattern) {}

  absl::StatusOr<std::string> Translate() {
    while (at_ < pattern_.size()) {
      if (pattern_[at_] == '\\') {
        Escape();
      } else if (in_class_) {
        STRAKE_RETURN_IF_ERROR(InClass());
      } else {
        OutsideClass();
      }
    }
    return result_;
  }

 private:
  bool Sees(absl::string_view text) const {
    return absl::string_view(pattern_).substr(at_, text.size()) == text;
  }
  void Copy(size_t num_bytes) {
    result_.append(pattern_, at_, num_bytes);
    at_ += num_bytes;
  }
  void Replace(size_t num_bytes, absl::string_view by) {
    result_.append(by.data(), by.size());
    at_ += num_bytes;
  }

  void Escape() {
    if (Sees("\\s")) {
      Replace(2, in_class_ ? kWhiteSpaceClass : absl::StrCat("[", kWhiteSpaceClass, "]"));
    } else if (Sees("\\S") && !in_class_) {
      Replace(2, absl::StrCat("[^", kWhiteSpaceClass, "]"));
    } else if (const absl::string_view digits = HexDigits(); !digits.empty()) {
      Replace(6, absl::StrCat("\\x{", digits, "}"));
    } else {
      Copy(2);
    }
  }

  // The four digits of \uHHHH, where that is what comes.
  absl::string_view HexDigits() const {
    if (!Sees("\\u") || at_ + 6 > pattern_.size()) return {};
    const absl::string_view digits = absl::string_view(pattern_).substr(at_ + 2, 4);
    return std::all_of(digits.begin(), digits.end(), IsHexDigit) ? digits : absl::string_view();
  }

  void OutsideClass() {
    if (pattern_[at_] != '[') return Copy(1);
    in_class_ = true;
    Copy(Sees("[^") ? 2 : 1);
    // A bracket here is one of the class's characters.
    if (Sees("]")) Copy(1);
  }

  absl::Status InClass() {
    if (Sees("[:") && pattern_.find(":]", at_ + 2) != std::string::npos) {
      Copy(pattern_.find(":]", at_ + 2) + 2 - at_);
      return absl::OkStatus();
    }
    if (Sees("[")) return Unsupported("a class within a class (write \\[ for the character)");
    if (Sees("&&")) return Unsupported("an intersection of classes (write \\&& for characters)");
    in_class_ = !Sees("]");
    Copy(1);
    return absl::OkStatus();
  }

  absl::Status Unsupported(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat("the regular expression \"", Printable(pattern_),
                                                   "\" has ", what, " at offset ", at_));
  }

  const std::string& pattern_;
  size_t at_ = 0;
  bool in_class_ = false;
  std::string result_;
};

// What a thread needs to match any pattern.
class MatchMemory {
 public:
  static MatchMemory& OfThread() {
    thread_local MatchMemory memory;
    return memory;
  }
  MatchMemory(const MatchMemory&) = delete;
  MatchMemory& operator=(const MatchMemory&) = delete;

  pcre2_match_data* data() { return data_; }
  pcre2_match_context* ContextFor(size_t text_bytes) {
    const size_t steps = kMinSteps + kStepsPerByte * text_bytes;
    pcre2_set_match_limit(context_, std::min<size_t>(steps, std::numeric_limits<uint32_t>::max()));
    return context_;
  }

 private:
  MatchMemory() {
    CHECK(data_ != nullptr && context_ != nullptr) << "out of memory";
    pcre2_set_heap_limit(context_, kMaxHeapKib);
    pcre2_jit_stack_assign(context_, nullptr, stack_);
  }
  ~MatchMemory() {
    pcre2_jit_stack_free(stack_);
    pcre2_match_context_free(context_);
    pcre2_match_data_free(data_);
  }

  pcre2_match_data* data_ = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context_ = pcre2_match_context_create(nullptr);
  // Null where there is no compiler to machine code, which is as well.
  pcre2_jit_stack* stack_ = pcre2_jit_stack_create(32 << 10, kMaxStackBytes, nullptr);
};

std::string ErrorMessage(int code) {
  std::array<PCRE2_UCHAR, 256> message;
  pcre2_get_error_message(code, message.data(), message.size());
  return reinterpret_cast<const char*>(message.data());
}

class Pcre2Expression final : public RegularExpression {
 public:
  Pcre2Expression(std::string pattern, pcre2_code* code)
      : pattern_(std::move(pattern)), code_(code) {
    // A pattern that cannot be compiled to machine code is interpreted.
    pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);
  }
  ~Pcre2Expression() override { pcre2_code_free(code_); }
  Pcre2Expression(const Pcre2Expression&) = delete;
  Pcre2Expression& operator=(const Pcre2Expression&) = delete;

  absl::Status FindMatches(absl::string_view text, std::vector<Match>* matches) const override {
    for (size_t begin = 0; begin < text.size();) {
      const size_t num_valid = ValidUtf8Prefix(text.substr(begin));
      if (num_valid > 0) {
        STRAKE_RETURN_IF_ERROR(FindInValid(text.substr(begin, num_valid), begin, matches));
      }
      begin += num_valid;
      begin += InvalidUtf8Prefix(text.substr(begin));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status FindInValid(absl::string_view text, size_t offset,
                           std::vector<Match>* matches) const {
    std::optional<size_t> last_end;
    for (size_t begin = 0; begin <= text.size();) {
      STRAKE_ASSIGN_OR_RETURN(const std::optional<Match> match, FindFirst(text, begin));
      if (!match) break;
      const bool is_empty = match->begin == match->end;
      if (!is_empty || match->end != last_end) {
        matches->push_back({match->begin + offset, match->end + offset});
      }
      last_end = match->end;
      begin = is_empty ? NextChar(text, match->end) : match->end;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::optional<Match>> FindFirst(absl::string_view text, size_t begin) const {
    MatchMemory& memory = MatchMemory::OfThread();
    const int result =
        pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), begin,
                    PCRE2_NO_UTF_CHECK, memory.data(), memory.ContextFor(text.size()));
    if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
    if (result < 0) return MatchError(result, begin);
    const PCRE2_SIZE* const found = pcre2_get_ovector_pointer(memory.data());
    return Match{found[0], found[1]};
  }

  static size_t NextChar(absl::string_view text, size_t at) {
    return at + std::max(1, DecodeUtf8(text.data() + at, text.data() + text.size()).num_bytes);
  }

  absl::Status MatchError(int code, size_t begin) const {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the regular expression \"", Printable(pattern_),
        "\" takes too long for this text, from byte ", begin, " on: ", ErrorMessage(code),
        "; it needs fewer ways to match the same characters"));
  }

  std::string pattern_;
  pcre2_code* code_;
};

class Pcre2Splitter final : public ValidTextSplitter {
 public:
  explicit Pcre2Splitter(std::vector<std::unique_ptr<const RegularExpression>> expressions)
      : expressions_(std::move(expressions)) {}

  size_t SafeCut(absl::string_view) const override { return 0; }
  bool covers_all() const override { return false; }

 private:
  absl::Status SplitValid(absl::string_view text, uint32_t offset,
                          std::vector<uint32_t>* ends) const override {
    std::vector<uint32_t> words = {static_cast<uint32_t>(text.size())};
    for (const auto& expression : expressions_) {
      STRAKE_ASSIGN_OR_RETURN(words, Isolate(*expression, text, words));
    }
    for (const uint32_t end : words) ends->push_back(end + offset);
    return absl::OkStatus();
  }

  // Cuts each word where a match begins and ends.
  static absl::StatusOr<std::vector<uint32_t>> Isolate(const RegularExpression& expression,
                                                       absl::string_view text,
                                                       const std::vector<uint32_t>& words) {
    std::vector<uint32_t> ends;
    std::vector<RegularExpression::Match> matches;
    uint32_t begin = 0;
    for (const uint32_t end : words) {
      matches.clear();
      STRAKE_RETURN_IF_ERROR(expression.FindMatches(text.substr(begin, end - begin), &matches));
      for (const auto& match : matches) {
        AddCut(begin + match.begin, &ends);
        AddCut(begin + match.end, &ends);
      }
      AddCut(end, &ends);
      begin = end;
    }
    return ends;
  }

  // Adds an end unless no character lies before it.
  static void AddCut(size_t at, std::vector<uint32_t>* ends) {
    if (at > (ends->empty() ? 0 : ends->back())) ends->push_back(at);
  }

  std::vector<std::unique_ptr<const RegularExpression>> expressions_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const RegularExpression>> RegularExpression::Compile(
    const std::string& pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a regular expression of ", pattern.size(),
                                                   " bytes is longer than ", kMaxPatternBytes));
  }
  STRAKE_ASSIGN_OR_RETURN(const std::string translated, PatternTranslator(pattern).Translate());
  int code = 0;
  size_t offset = 0;
  pcre2_code* const compiled =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C, &code,
                    &offset, nullptr);
  if (compiled == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", Printable(pattern), "\" is no regular expression: ", ErrorMessage(code),
                     " at offset ", offset, " of \"", Printable(translated), "\""));
  }
  return std::make_unique<const Pcre2Expression>(pattern, compiled);
}

absl::StatusOr<std::unique_ptr<const Splitter>> MakePcre2Splitter(
    absl::Span<const std::string> patterns) {
  std::vector<std::unique_ptr<const RegularExpression>> expressions;
  for (const std::string& pattern : patterns) {
    STRAKE_ASSIGN_OR_RETURN(auto expression, RegularExpression::Compile(pattern));
    expressions.push_back(std::move(expression));
  }
  return std::make_unique<const Pcre2Splitter>(std::move(expressions));
}

std::string Pcre2UnicodeVersion() {
  std::array<char, 64> version = {};
  pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version.data());
  return version.data();
}

}  // namespace strake
