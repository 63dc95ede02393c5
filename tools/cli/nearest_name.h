// Suggests a name for one that is misspelled.
#ifndef STRAKE_TOOLS_CLI_NEAREST_NAME_H_
#define STRAKE_TOOLS_CLI_NEAREST_NAME_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace strake {

// How many letters are inserted, left out, replaced, or swapped with the next one, between two
// names. Case, and whether words are joined by - or _, make no difference.
size_t NameDistance(absl::string_view a, absl::string_view b);

// The nearest of `names`, the first of several; empty where none is near. A name is near where the
// distance is at most a third of the longer one's length, or 1.
std::string NearestName(absl::string_view name, const std::vector<std::string>& names);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_NEAREST_NAME_H_
