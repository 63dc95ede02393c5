// The versions of what decides, besides a tokenizer's spec, how text is cut into words.
#ifndef STRAKE_DATA_TOKENIZER_LIBRARY_VERSIONS_H_
#define STRAKE_DATA_TOKENIZER_LIBRARY_VERSIONS_H_

#include <string>

namespace strake {

// "Unicode 16.0.0, utf8proc 2.9.0, PCRE2 10.42 2022-12-11": our tables and the libraries, which
// have tables of their own. Other versions may class characters differently, and so give a text
// other tokens.
std::string TokenizerLibraryVersions();

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_LIBRARY_VERSIONS_H_
