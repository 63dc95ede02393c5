// JSON as configuration files and headers of other formats need it: strict.
#ifndef STRAKE_CORE_BASE_JSON_H_
#define STRAKE_CORE_BASE_JSON_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

// The value of a JSON text. InvalidArgument, with line and column where there is one, for a text
// that is not JSON, a number that is out of range, a key that an object holds twice (the library
// would keep the last), and more than 64 levels. `source` begins each message.
absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text, absl::string_view source);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_JSON_H_
