#include "data/text/json_line.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/printable.h"
#include "core/base/utf8.h"

namespace strake {
namespace {

constexpr int kMaxDepth = 256;

// Whether a byte of a string needs a look: a quote, a backslash, a control character, or one of
// several that make a character.
bool IsNotable(unsigned char c) { return c == '"' || c == '\\' || c < 0x20 || c >= 0x80; }

// The high bit of the first byte of `word` that IsNotable(), of no byte before, and perhaps of some
// after it: a subtraction borrows from a byte only where it marked the one before.
uint64_t NotableBytes(uint64_t word) {
  constexpr uint64_t kOnes = 0x0101010101010101, kHigh = 0x8080808080808080;
  const uint64_t quotes = word ^ (kOnes * '"'), backslashes = word ^ (kOnes * '\\');
  const uint64_t found = ((quotes - kOnes) & ~quotes) | ((backslashes - kOnes) & ~backslashes) |
                         ((word - kOnes * 0x20) & ~word) | word;
  return found & kHigh;
}

// Each function reads what its name says from the front of what is left, or sets the error and
// returns false.
class Scanner {
 public:
  explicit Scanner(absl::string_view line)
      : begin_(line.data()), at_(line.data()), end_(line.data() + line.size()) {}

  // Adds the members' names to `names` if that is not null.
  bool Object(absl::string_view name, std::string* buffer, absl::string_view* value, bool* found,
              std::vector<std::string>* names);
  bool Node(int depth, JsonNode* node);
  bool IsObject() { return Peek() == '{' ? true : Fail("the line is not a JSON object"); }
  bool End() { return Peek() == 0 && at_ == end_ ? true : Fail("the object ended before"); }

  absl::Status error() const {
    return absl::InvalidArgumentError(
        absl::StrCat("column ", error_at_ - begin_ + 1, ": ", error_));
  }

 private:
  bool Fail(absl::string_view what) { return FailAt(at_, what); }
  bool FailAt(const char* at, absl::string_view what) {
    error_at_ = at;
    error_ = std::string(what);
    return false;
  }
  // The next character after blanks; 0 at the end.
  char Peek() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\r' || *at_ == '\n')) ++at_;
    return at_ != end_ ? *at_ : '\0';
  }
  bool Take(char c) {
    if (Peek() != c || at_ == end_) return false;
    ++at_;
    return true;
  }

  bool Value(int depth);
  bool Container(char close, int depth);
  bool Children(char close, int depth, JsonNode* node);
  bool Number();
  bool Digits();
  bool Literal(absl::string_view word);
  bool Member(absl::string_view name, std::string* buffer, absl::string_view* value, bool* found);
  // `value` may be null.
  bool String(std::string* buffer, absl::string_view* value);
  void SkipPlainBytes();
  bool Escape(std::string* buffer);
  bool Unicode(std::string* buffer);
  bool Hex4(uint32_t* code);

  const char* const begin_;
  const char* at_;
  const char* const end_;
  const char* error_at_ = nullptr;
  std::string error_;
  std::string unused_;
};

bool Scanner::Object(absl::string_view name, std::string* buffer, absl::string_view* value,
                     bool* found, std::vector<std::string>* names) {
  if (!IsObject()) return false;
  ++at_;
  if (Take('}')) return true;
  std::string key_buffer;
  do {
    absl::string_view key;
    if (Peek() != '"') return Fail("the name of a member is missing");
    if (!String(&key_buffer, &key)) return false;
    if (names != nullptr) names->emplace_back(key);
    if (!Take(':')) return Fail("\":\" is missing");
    if (key == name ? !Member(name, buffer, value, found) : !Value(1)) return false;
  } while (Take(','));
  return Take('}') ? true
                   : Fail(at_ == end_ ? "the object does not end" : "\",\" or \"}\" is missing");
}

JsonNode::Kind KindOf(char first) {
  return first == '{'                   ? JsonNode::Kind::kObject
         : first == '['                 ? JsonNode::Kind::kArray
         : first == '"'                 ? JsonNode::Kind::kString
         : first == 'n'                 ? JsonNode::Kind::kNull
         : first == 't' || first == 'f' ? JsonNode::Kind::kBoolean
                                        : JsonNode::Kind::kNumber;
}

bool Scanner::Member(absl::string_view name, std::string* buffer, absl::string_view* value,
                     bool* found) {
  const char first = Peek();
  const auto fail = [&](absl::string_view what) {
    return Fail(absl::StrCat("member \"", Printable(name), "\" ", what));
  };
  if (*found) return fail("is there twice");
  *found = true;
  if (first == '"') return String(buffer, value);
  const char* const at = at_;
  if (!Value(1)) return false;
  at_ = at;
  return fail(absl::StrCat("is ", KindName(KindOf(first)), ", not a string"));
}

bool Scanner::Value(int depth) {
  if (depth == kMaxDepth) return Fail(absl::StrCat("more than ", kMaxDepth, " levels"));
  switch (Peek()) {
    case '"':
      return String(&unused_, nullptr);
    case '{':
      return Container('}', depth);
    case '[':
      return Container(']', depth);
    case 't':
      return Literal("true");
    case 'f':
      return Literal("false");
    case 'n':
      return Literal("null");
    default:
      return Number();
  }
}

bool Scanner::Container(char close, int depth) {
  ++at_;
  if (Take(close)) return true;
  do {
    if (close == '}') {
      if (Peek() != '"') return Fail("the name of a member is missing");
      if (!String(&unused_, nullptr)) return false;
      if (!Take(':')) return Fail("\":\" is missing");
    }
    if (!Value(depth + 1)) return false;
  } while (Take(','));
  return Take(close) ? true : Fail("a list or object does not end");
}

bool Scanner::Node(int depth, JsonNode* node) {
  const char first = Peek();
  node->kind = KindOf(first);
  node->column = at_ - begin_ + 1;
  if (first == '{' && depth < kMaxDepth) return Children('}', depth, node);
  if (first == '[' && depth < kMaxDepth) return Children(']', depth, node);
  if (first != '"' || depth == kMaxDepth) return Value(depth);
  absl::string_view text;
  std::string buffer;
  if (!String(&buffer, &text)) return false;
  node->text = std::string(text);
  return true;
}

bool Scanner::Children(char close, int depth, JsonNode* node) {
  ++at_;
  if (Take(close)) return true;
  do {
    if (close == '}') {
      absl::string_view name;
      if (Peek() != '"') return Fail("the name of a member is missing");
      if (!String(&unused_, &name)) return false;
      node->names.emplace_back(name);
      if (!Take(':')) return Fail("\":\" is missing");
    }
    if (!Node(depth + 1, &node->values.emplace_back())) return false;
  } while (Take(','));
  return Take(close) ? true : Fail("a list or object does not end");
}

bool Scanner::Literal(absl::string_view word) {
  if (!absl::StartsWith(absl::string_view(at_, end_ - at_), word)) return Fail("this is no value");
  at_ += word.size();
  return true;
}

bool Scanner::Digits() {
  const char* const first = at_;
  while (at_ != end_ && absl::ascii_isdigit(static_cast<unsigned char>(*at_))) ++at_;
  return at_ != first;
}

bool Scanner::Number() {
  const char* const first = at_;
  if (at_ != end_ && *at_ == '-') ++at_;
  const bool zero = at_ != end_ && *at_ == '0';
  if (zero) ++at_;
  if (!zero && !Digits())
    return FailAt(first, first == end_ ? "a value is missing" : "this is no value");
  if (at_ != end_ && *at_ == '.') {
    ++at_;
    if (!Digits()) return Fail("digits are missing");
  }
  if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
    ++at_;
    if (at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
    if (!Digits()) return Fail("digits are missing");
  }
  return true;
}

void Scanner::SkipPlainBytes() {
  while (end_ - at_ >= 8) {
    uint64_t word;
    std::memcpy(&word, at_, sizeof(word));
    const uint64_t notable = NotableBytes(word);
    if (notable != 0) {
      at_ += std::countr_zero(notable) / 8;
      return;
    }
    at_ += 8;
  }
  while (at_ != end_ && !IsNotable(*at_)) ++at_;
}

bool Scanner::String(std::string* buffer, absl::string_view* value) {
  const char* const quote = at_++;
  const char* run = at_;  // what is not in the buffer yet
  bool escaped = false;
  while (true) {
    SkipPlainBytes();
    if (at_ == end_) return FailAt(quote, "the string that begins here does not end");
    const unsigned char c = *at_;
    if (c >= 0x80) {
      const int length = DecodeUtf8(at_, end_).num_bytes;
      if (length == 0) return Fail("bytes that are not UTF-8");
      at_ += length;
    } else if (c == '\\') {
      if (!escaped) buffer->clear();
      escaped = true;
      if (value != nullptr) buffer->append(run, at_);
      if (!Escape(buffer)) return false;
      run = at_;
    } else if (c == '"') {
      break;
    } else {
      return Fail("a control character in a string");
    }
  }
  if (value != nullptr && escaped) buffer->append(run, at_);
  if (value != nullptr) *value = escaped ? *buffer : absl::string_view(run, at_ - run);
  ++at_;
  return true;
}

bool Scanner::Escape(std::string* buffer) {
  constexpr absl::string_view kLetters = "\"\\/bfnrtu", kMeanings = "\"\\/\b\f\n\r\t";
  if (end_ - at_ < 2) return Fail("the string ends in an escape");
  const size_t letter = kLetters.find(at_[1]);
  if (letter == absl::string_view::npos) return Fail("an unknown escape");
  if (letter == kMeanings.size()) return Unicode(buffer);
  buffer->push_back(kMeanings[letter]);
  at_ += 2;
  return true;
}

bool Scanner::Hex4(uint32_t* code) {
  if (end_ - at_ < 6 || at_[0] != '\\' || at_[1] != 'u') return false;
  *code = 0;
  for (int i = 2; i < 6; ++i) {
    const unsigned char c = at_[i];
    if (!absl::ascii_isxdigit(c)) return false;
    *code = *code * 16 + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
  }
  at_ += 6;
  return true;
}

bool Scanner::Unicode(std::string* buffer) {
  const char* const first = at_;
  uint32_t code, low;
  if (!Hex4(&code)) return Fail("\\u needs four hexadecimal digits");
  if (IsSurrogate(code)) {
    if (code >= 0xdc00 || !Hex4(&low) || low < 0xdc00 || low >= 0xe000) {
      return FailAt(first, "half a character (a surrogate without its other half)");
    }
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  }
  AppendUtf8(code, buffer);
  return true;
}

absl::Status Missing(absl::string_view line, absl::string_view name) {
  std::vector<std::string> names;
  std::string buffer;
  absl::string_view value;
  bool found = false;
  Scanner(line).Object(name, &buffer, &value, &found, &names);
  constexpr size_t kMaxNames = 10;
  const bool more = names.size() > kMaxNames;
  if (more) names.resize(kMaxNames);
  for (std::string& other : names) other = Printable(other);
  return absl::InvalidArgumentError(absl::StrCat("column 1: has no member \"", Printable(name),
                                                 "\"; ",
                                                 names.empty() ? "the object is empty" : "it has ",
                                                 absl::StrJoin(names, ", "), more ? ", ..." : ""));
}

}  // namespace

absl::StatusOr<absl::string_view> JsonStringMember(absl::string_view line, absl::string_view name,
                                                   std::string* buffer) {
  Scanner scanner(line);
  absl::string_view value;
  bool found = false;
  if (!scanner.Object(name, buffer, &value, &found, nullptr) || !scanner.End()) {
    return scanner.error();
  }
  if (!found) return Missing(line, name);
  return value;
}

absl::string_view KindName(JsonNode::Kind kind) {
  constexpr absl::string_view kNames[] = {"null",     "a boolean", "a number",
                                          "a string", "an array",  "an object"};
  return kNames[static_cast<int>(kind)];
}

absl::StatusOr<JsonNode> ParseJsonObject(absl::string_view line) {
  Scanner scanner(line);
  JsonNode node;
  if (!scanner.IsObject() || !scanner.Node(0, &node) || !scanner.End()) return scanner.error();
  return node;
}

}  // namespace strake
