// Bytes as targets of a token file: any content gives an error, or ranges that are written as the
// same bytes. The checksum is made right first, so that what it protects is reached.
#include <cstdint>
#include <cstring>
#include <string>

#include "core/base/crc32c.h"
#include "data/target_ranges.h"
#include "glog/logging.h"

namespace strake {
namespace {

void Parse(absl::string_view content) {
  const auto targets = ParseTargetRanges("fuzz.targets", content);
  if (!targets.ok()) return;
  CHECK(TargetRangesBytes(*targets) == content);
  CHECK(TokenRanges(targets->ranges).ranges() == targets->ranges);
  CHECK_LE(targets->num_targets(), targets->num_tokens);
}

}  // namespace
}  // namespace strake

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string content(reinterpret_cast<const char*>(data), size);
  strake::Parse(content);
  if (size < 4) return 0;
  const uint32_t crc = strake::ExtendCrc32c(0, absl::string_view(content).substr(0, size - 4));
  std::memcpy(&content[size - 4], &crc, sizeof(crc));
  strake::Parse(content);
  return 0;
}
