#include "core/base/printable.h"

#include <optional>

#include "absl/strings/str_cat.h"

namespace strake {
namespace {

// The control character that begins at `i`, if one does; `size` is its number of bytes.
std::optional<unsigned char> ControlAt(absl::string_view text, size_t i, size_t* size) {
  const unsigned char c = text[i];
  const unsigned char next = i + 1 < text.size() ? text[i + 1] : 0;
  *size = 1;
  if (c < 0x20 || c == 0x7f) return c;
  if (c != 0xc2 || next < 0x80 || 0xa0 <= next) return std::nullopt;
  *size = 2;  // C1 in UTF-8
  return next;
}

std::string ShowControls(absl::string_view text, bool keep_lines) {
  std::string shown;
  for (size_t i = 0, size; i < text.size(); i += size) {
    const std::optional<unsigned char> control = ControlAt(text, i, &size);
    const unsigned char c = control.value_or(' ');
    if (!control.has_value() || (keep_lines && (c == '\n' || c == '\t'))) {
      shown += text[i];
    } else if (!keep_lines && (c == '\n' || c == '\r')) {
      shown += ' ';
    } else {
      absl::StrAppend(&shown, "\\x", absl::Hex(c, absl::kZeroPad2));
    }
  }
  return shown;
}

}  // namespace

std::string Printable(absl::string_view text) { return ShowControls(text, /*keep_lines=*/false); }
std::string PrintableLines(absl::string_view text) {
  return ShowControls(text, /*keep_lines=*/true);
}

}  // namespace strake
