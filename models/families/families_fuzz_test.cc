// For any text, parsing a config.json returns an error, or a model that the checks accept and that
// is the same after writing and reading it again.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "models/families/families.h"
#include "models/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> notices;
  const auto config = strake::ParseHfConfig(text, "fuzz", &notices);
  if (!config.ok()) {
    CHECK(!config.status().message().empty());
    return 0;
  }
  CHECK(strake::ValidateModelConfig(*config).ok());
  CHECK_GT(strake::NumParameters(*config), 0);
  CHECK_GT(strake::TrainingFlopsPerToken(*config, 1), 0);
  const auto again = strake::ParseHfConfig(strake::ToHfConfig(*config), "again", nullptr);
  CHECK(again.ok()) << again.status();
  CHECK(*again == *config) << strake::ToHfConfig(*config);
  return 0;
}
