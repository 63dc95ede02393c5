// The configurations of testdata/config, with changes.
#ifndef STRAKE_MODELS_FAMILIES_CONFIG_SEEDS_H_
#define STRAKE_MODELS_FAMILIES_CONFIG_SEEDS_H_

#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/read_file.h"
#include "gtest/gtest.h"
#include "models/families/families.h"
#include "nlohmann/json.hpp"

namespace strake::testing {

inline constexpr char kConfigSeeds[] = "models/families/testdata/config/";

inline std::string Seed(const std::string& name) {
  const auto text = strake::ReadFile(absl::StrCat(kConfigSeeds, name, ".json"));
  EXPECT_TRUE(text.ok()) << text.status();
  return text.value_or("{}");
}

// The seed with the keys of `patch` set; null removes a key.
inline std::string Patched(const std::string& seed, const std::string& patch) {
  nlohmann::json json = nlohmann::json::parse(Seed(seed));
  json.merge_patch(nlohmann::json::parse(patch));
  return json.dump();
}

// The error of reading the text; "" without one.
inline std::string ErrorOf(const std::string& text) {
  const auto config = ParseHfConfig(text, "my/config.json", nullptr);
  return config.ok() ? "" : std::string(config.status().message());
}

}  // namespace strake::testing

#endif  // STRAKE_MODELS_FAMILIES_CONFIG_SEEDS_H_
