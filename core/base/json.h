// Strict JSON, for configuration files and the headers of other formats.
#ifndef STRAKE_CORE_BASE_JSON_H_
#define STRAKE_CORE_BASE_JSON_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

// Parses a JSON text. Returns InvalidArgument, with line and column if known, for a text that is
// not JSON, a number out of range, a key that an object holds twice (the library would keep the
// last), and more than 64 levels. `source` begins each message.
absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text, absl::string_view source);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_JSON_H_
