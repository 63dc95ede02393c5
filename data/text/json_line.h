// JsonStringMember: the text of one member of the JSON object that a line holds, as JSON Lines have
// it. Strict JSON (RFC 8259), read in one pass without building a value.
#ifndef STRAKE_DATA_TEXT_JSON_LINE_H_
#define STRAKE_DATA_TEXT_JSON_LINE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

// The value of the member `name`, in UTF-8: a part of `line`, or of `buffer` where it has escapes.
// InvalidArgument, beginning with "column N: ", counted in bytes from 1, for a line that is no JSON
// object or has more than 256 levels, and for a member that is missing, no string, or there twice.
// Other members may be there twice.
absl::StatusOr<absl::string_view> JsonStringMember(absl::string_view line, absl::string_view name,
                                                   std::string* buffer);

}  // namespace strake

#endif  // STRAKE_DATA_TEXT_JSON_LINE_H_
