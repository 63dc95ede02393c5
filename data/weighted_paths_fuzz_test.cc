// For any list, parsing it returns an error, or sources of different names whose paths stand in it
// one after the other.
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

#include "absl/strings/string_view.h"
#include "data/weighted_paths.h"
#include "glog/logging.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view list(reinterpret_cast<const char*>(data), size);
  // Some texts are paths.
  const auto exists = [](const std::string& path) { return path.size() % 5 == 4; };
  const auto sources = strake::ParseWeightedPaths(list, exists);
  if (!sources.ok()) {
    CHECK(!sources.status().message().empty());
    return 0;
  }
  size_t at = 0;
  std::set<std::string> names;
  for (const strake::WeightedPaths& source : *sources) {
    CHECK(!source.paths.empty() && names.insert(source.name).second) << source.name;
    at = list.find(source.paths, at);
    CHECK(at != list.npos) << source.paths;
    at += source.paths.size();
  }
  return 0;
}
