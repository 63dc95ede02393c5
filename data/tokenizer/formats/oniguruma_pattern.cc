#include "data/tokenizer/formats/oniguruma_pattern.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/utf8.h"

namespace strake {
namespace {

class Translator {
 public:
  explicit Translator(absl::string_view pattern) : rest_(pattern) {}

  absl::StatusOr<std::string> Run() {
    while (!rest_.empty() && status_.ok()) Step();
    if (!status_.ok()) return status_;
    return result_;
  }

 private:
  void Step() {
    switch (rest_.front()) {
      case '\\':
        return Atom(EscapeSize());
      case '[':
        return Class();
      case '(':
        return Open();
      case ')':
        return Close();
      case '{':
        return Brace();
      case '^':
      case '$':
        return Anchor();
      case '*':
      case '+':
      case '?':
      case '|':
        return Copy(1);
      default:
        return Atom(1);
    }
  }

  void Fail(absl::string_view part, absl::string_view reason) {
    status_ = absl::InvalidArgumentError(absl::StrCat("has ", part, ", ", reason));
  }

  void Copy(size_t size) {
    size = std::min(size, rest_.size());
    absl::StrAppend(&result_, rest_.substr(0, size));
    rest_.remove_prefix(size);
  }

  // What a quantifier after it repeats.
  void Atom(size_t size) {
    // The bytes of a character after its first belong to it.
    if (!IsUtf8Continuation(rest_.front())) atom_ = result_.size();
    Copy(size);
  }

  // \p{...}, or a backslash and one more. Their other forms with braces are taken apart, which
  // changes nothing: no quantifier stands in them.
  size_t EscapeSize() {
    if (rest_.size() < 2) return rest_.size();
    const char kind = rest_[1];
    if (kind == 'h' || kind == 'H') {
      Fail("\\h or \\H", "which is a hexadecimal digit to Oniguruma, and a blank to PCRE2");
    }
    const bool has_braces =
        (kind == 'p' || kind == 'P' || kind == 'x') && rest_.size() > 2 && rest_[2] == '{';
    if (!has_braces) return 2;
    const size_t end = rest_.find('}');
    return end == absl::string_view::npos ? rest_.size() : end + 1;
  }

  void Class() {
    atom_ = result_.size();
    Copy(absl::StartsWith(rest_, "[^") ? 2 : 1);
    if (absl::StartsWith(rest_, "]")) Copy(1);  // the first is no end
    while (!rest_.empty() && rest_.front() != ']' && status_.ok()) {
      if (rest_.front() == '\\') {
        Copy(EscapeSize());
      } else if (absl::StartsWith(rest_, "[:")) {
        const size_t end = rest_.find(":]");
        Copy(end == absl::string_view::npos ? rest_.size() : end + 2);
      } else if (rest_.front() == '[') {
        Fail("a class in a class", "which PCRE2 does not know");
      } else if (absl::StartsWith(rest_, "&&")) {
        Fail("an intersection of classes", "which PCRE2 does not know");
      } else {
        Copy(1);
      }
    }
    Copy(1);
  }

  void Open() {
    groups_.push_back(result_.size());
    if (absl::StartsWith(rest_, "(?")) {
      for (size_t i = 2; i < rest_.size() && (absl::ascii_islower(rest_[i]) || rest_[i] == '-');
           ++i) {
        if (rest_[i] == 'm' || rest_[i] == 'x')
          Fail("the option m or x", "which is not translated");
      }
      return Copy(2);
    }
    Copy(1);
  }

  void Close() {
    if (!groups_.empty()) {
      atom_ = groups_.back();
      groups_.pop_back();
    }
    Copy(1);
  }

  void Anchor() {
    absl::StrAppend(&result_, "(?m:", rest_.substr(0, 1), ")");
    rest_.remove_prefix(1);
  }

  static size_t NumDigits(absl::string_view text) {
    return std::find_if_not(text.begin(), text.end(), absl::ascii_isdigit) - text.begin();
  }

  // A quantifier, or a brace that is a character.
  void Brace() {
    const absl::string_view inside = rest_.substr(1);
    const size_t low = NumDigits(inside);
    const bool comma = absl::StartsWith(inside.substr(low), ",");
    const size_t high = comma ? NumDigits(inside.substr(low + 1)) : 0;
    const size_t size = low + comma + high;
    if (low + high == 0 || !absl::StartsWith(inside.substr(size), "}")) return Atom(1);
    absl::StrAppend(&result_, "{", low == 0 ? "0" : "", inside.substr(0, size), "}");
    rest_.remove_prefix(size + 2);
    const bool repeated = absl::StartsWith(rest_, "+");
    const bool optional = absl::StartsWith(rest_, "?") && !comma;
    if (!repeated && !optional) return;
    result_.insert(atom_, "(?:");
    result_.push_back(')');
    Copy(1);
  }

  absl::string_view rest_;
  std::string result_;
  size_t atom_ = 0;             // where the last one begins in the result
  std::vector<size_t> groups_;  // where those that are open begin in it
  absl::Status status_;
};

}  // namespace

absl::StatusOr<std::string> Pcre2OfOniguruma(absl::string_view pattern) {
  return Translator(pattern).Run();
}

}  // namespace strake
