#include "data/document_list.h"

#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "core/base/printable.h"

namespace strake {
namespace {

constexpr absl::string_view kBlanks = " \t\r\v\f";

// Whether byte i stands in a list as \xNN.
bool IsEscaped(absl::string_view path, size_t i) {
  const auto at = [&](size_t j) { return static_cast<unsigned char>(path[j]); };
  if (at(i) < 0x20 || at(i) == 0x7f || path[i] == '\\') return true;
  if (i == 0 && (path[i] == '#' || path[i] == ' ')) return true;
  // Control characters of Unicode.
  const auto is_control = [&](size_t j) {
    return at(j) == 0xc2 && j + 1 < path.size() && at(j + 1) >= 0x80 && at(j + 1) < 0xa0;
  };
  return is_control(i) || (i > 0 && is_control(i - 1));
}

// Returns nothing where a backslash begins no \xNN.
std::optional<std::string> Unescape(absl::string_view text) {
  constexpr size_t kLength = 4;
  std::string path;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      path.push_back(text[i]);
      continue;
    }
    if (text.size() - i < kLength || text[i + 1] != 'x' || !absl::ascii_isxdigit(text[i + 2]) ||
        !absl::ascii_isxdigit(text[i + 3])) {
      return std::nullopt;
    }
    path += absl::HexStringToBytes(text.substr(i + 2, 2));
    i += kLength - 1;
  }
  return path;
}

absl::string_view WithoutBlanks(absl::string_view line) {
  const size_t begin = line.find_first_not_of(kBlanks);
  if (begin == line.npos) return "";
  return line.substr(begin, line.find_last_not_of(kBlanks) - begin + 1);
}

// An error is what is wrong with the line.
absl::StatusOr<DocumentName> ParseName(absl::string_view line) {
  const size_t colon = line.rfind(':');
  const absl::string_view digits = colon == line.npos ? "" : line.substr(colon + 1);
  DocumentName name;
  if (digits.empty() || digits.find_first_not_of("0123456789") != digits.npos ||
      !absl::SimpleAtoi(digits, &name.offset) || colon == 0) {
    return absl::InvalidArgumentError(
        "is not PATH:OFFSET, a path and the byte at which a document "
        "begins");
  }
  const std::optional<std::string> path = Unescape(line.substr(0, colon));
  if (!path.has_value()) {
    return absl::InvalidArgumentError("has a \\ that begins no \\xNN; write \\x5c for a backslash");
  }
  name.path = *path;
  return name;
}

}  // namespace

std::string ToListLine(const DocumentName& name) {
  std::string text;
  for (size_t i = 0; i < name.path.size(); ++i) {
    if (IsEscaped(name.path, i)) {
      absl::StrAppendFormat(&text, "\\x%02x", static_cast<unsigned char>(name.path[i]));
    } else {
      text.push_back(name.path[i]);
    }
  }
  return absl::StrCat(text, ":", name.offset);
}

absl::StatusOr<std::vector<ListedDocument>> ParseDocumentList(absl::string_view list,
                                                              absl::string_view source) {
  std::vector<ListedDocument> documents;
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(list, '\n')) {
    ++number;
    line = WithoutBlanks(line);
    if (line.empty() || line[0] == '#') continue;
    const auto name = ParseName(line);
    if (!name.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(
          source, ": line ", number, ": \"", Printable(line), "\" ", name.status().message()));
    }
    documents.push_back({*name, number});
  }
  return documents;
}

}  // namespace strake
