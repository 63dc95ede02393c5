// Bytes as a generation_config.json: any content gives an error, or the tokens that it names.
#include <cstdint>

#include "absl/strings/string_view.h"
#include "glog/logging.h"
#include "tools/generating/end_tokens.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto tokens = strake::ParseEndTokens(text, "fuzz.json");
  if (!tokens.ok()) CHECK(!tokens.status().message().empty());
  return 0;
}
