// Strict JSON, for configuration files and the headers of other formats.
//
// Parser and writer of the library are compiled in json.cc alone: each takes a second or two.
#ifndef STRAKE_CORE_BASE_JSON_H_
#define STRAKE_CORE_BASE_JSON_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

// Parses a JSON text. Returns InvalidArgument, with line and column if known, for a text that is
// not JSON, a number out of range, a key that an object holds twice (the library would keep the
// last), and more than 64 levels. `source` begins each message.
absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text, absl::string_view source);
// The same for one line of a file, which `place` names: messages give the column alone.
absl::StatusOr<nlohmann::json> ParseJsonLine(absl::string_view line, absl::string_view place);
// Parses as ParseJson() does, with the keys of objects in the order of the text.
absl::StatusOr<nlohmann::ordered_json> ParseOrderedJson(absl::string_view text,
                                                        absl::string_view source);

// The text of a value, for files: over several lines, the levels indented by `indent` columns, or
// on one line if that is negative. Bytes that are not UTF-8, which paths may have and JSON has not,
// become U+FFFD.
std::string JsonText(const nlohmann::json& value, int indent = -1);
std::string JsonText(const nlohmann::ordered_json& value, int indent = -1);

// The shortest text of a number that reads back exactly; "null" where it is not finite, which JSON
// cannot express.
std::string JsonNumber(double value);

// The text of a value as messages quote it: ASCII, on one line, at most 80 characters and then
// "...".
std::string QuoteJson(const nlohmann::json& value);
std::string QuoteJson(const nlohmann::ordered_json& value);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_JSON_H_
