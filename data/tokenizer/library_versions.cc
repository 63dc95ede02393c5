#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/tokenizer/library_versions.h"

#include <utf8proc.h>

#include <array>

#include "absl/strings/str_cat.h"
#include "data/tokenizer/words/unicode.h"
#include "pcre2.h"

namespace strake {

std::string TokenizerLibraryVersions() {
  std::array<char, 64> pcre2 = {};
  pcre2_config(PCRE2_CONFIG_VERSION, pcre2.data());
  return absl::StrCat("Unicode ", UnicodeVersion(), ", utf8proc ", utf8proc_version(), ", PCRE2 ",
                      pcre2.data());
}

}  // namespace strake
