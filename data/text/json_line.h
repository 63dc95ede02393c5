// JsonStringMember, ParseJsonObject: the JSON object that a line holds, as JSON Lines have it.
// Strict JSON (RFC 8259). The first reads the text of one member, in one pass without building a
// value.
#ifndef STRAKE_DATA_TEXT_JSON_LINE_H_
#define STRAKE_DATA_TEXT_JSON_LINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

// The value of the member `name`, in UTF-8: a part of `line`, or of `buffer` where it has escapes.
// InvalidArgument, beginning with "column N: ", counted in bytes from 1, for a line that is no JSON
// object or has more than 256 levels, and for a member that is missing, no string, or there twice.
// Other members may be there twice.
absl::StatusOr<absl::string_view> JsonStringMember(absl::string_view line, absl::string_view name,
                                                   std::string* buffer);

// A value, and where in the line it stands.
struct JsonNode {
  enum class Kind : uint8_t { kNull, kBoolean, kNumber, kString, kArray, kObject };
  Kind kind = Kind::kNull;
  int64_t column = 0;                   // in bytes from 1
  std::string text = {};                // kString, in UTF-8
  std::vector<std::string> names = {};  // kObject: of the values, one of which may be there twice
  std::vector<JsonNode> values = {};    // kArray, kObject
};

// "a string", for messages.
absl::string_view KindName(JsonNode::Kind kind);

// InvalidArgument, as above, for a line that is no JSON object or has more than 256 levels.
absl::StatusOr<JsonNode> ParseJsonObject(absl::string_view line);

}  // namespace strake

#endif  // STRAKE_DATA_TEXT_JSON_LINE_H_
