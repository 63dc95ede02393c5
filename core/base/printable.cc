#include "core/base/printable.h"

#include "absl/strings/str_cat.h"

namespace strake {

std::string Printable(absl::string_view text) {
  std::string shown;
  const auto show = [&](unsigned char c) {
    absl::StrAppend(&shown, "\\x", absl::Hex(c, absl::kZeroPad2));
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = text[i];
    const unsigned char next = i + 1 < text.size() ? text[i + 1] : 0;
    if (c == '\n' || c == '\r') {
      shown += ' ';
    } else if (c < 0x20 || c == 0x7f) {
      show(c);
    } else if (c == 0xc2 && 0x80 <= next && next < 0xa0) {  // C1 in UTF-8
      show(next);
      ++i;
    } else {
      shown += text[i];
    }
  }
  return shown;
}

}  // namespace strake
