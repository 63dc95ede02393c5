// For any text, parsing an adapter_config.json returns an error, or an adapter that is the same
// after writing and reading it again.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "models/checkpoint/adapter_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> notices;
  const auto config = strake::ParseAdapterConfig(text, "fuzz", &notices);
  if (!config.ok()) {
    CHECK(!config.status().message().empty());
    return 0;
  }
  CHECK(config->lora.enabled() && config->lora.alpha > 0);
  for (const bool fan_in_fan_out : {false, true}) {
    const std::string written = strake::ToAdapterConfig(*config, fan_in_fan_out);
    const auto again = strake::ParseAdapterConfig(written, "again", nullptr);
    CHECK(again.ok()) << again.status();
    CHECK(*again == *config) << written;
  }
  return 0;
}
