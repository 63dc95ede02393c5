// Pcre2OfOniguruma: a regular expression of a tokenizer.json, as Strake's splitters take it.
//
// Hugging Face's library matches by Oniguruma in Ruby's syntax, which differs from PCRE2's: ^ and $
// also match at line ends, "{n,m}+" repeats "{n,m}" instead of being possessive, "{n}?" makes it
// optional instead of lazy, and "{,m}" is "{0,m}".
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_ONIGURUMA_PATTERN_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_ONIGURUMA_PATTERN_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

// The same text where both mean the same. InvalidArgument, naming the part, for what PCRE2 takes
// for something else and that is not translated: \h and \H, classes in classes and their
// intersections, the options m and x. Faults that both refuse stay as they are.
absl::StatusOr<std::string> Pcre2OfOniguruma(absl::string_view pattern);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_ONIGURUMA_PATTERN_H_
