// StripWhiteSpace: what Python's str.strip() leaves, which is what templates mean by "trim".
#ifndef STRAKE_DATA_CHAT_WHITE_SPACE_H_
#define STRAKE_DATA_CHAT_WHITE_SPACE_H_

#include "absl/strings/string_view.h"

namespace strake {

// `text`, in UTF-8, without the white space at its ends. Unlike Unicode's White_Space, that
// includes U+001C to U+001F.
absl::string_view StripWhiteSpace(absl::string_view text);

}  // namespace strake

#endif  // STRAKE_DATA_CHAT_WHITE_SPACE_H_
