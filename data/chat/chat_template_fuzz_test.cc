// Bytes as the two files that may hold a template: any give an error that names the file, or a
// text.
#include <cstdint>
#include <string>

#include "absl/strings/match.h"
#include "core/testing/temp_directory.h"
#include "data/chat/chat_template.h"
#include "glog/logging.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* const folder = new strake::testing::TempDirectory;
  const std::string content(reinterpret_cast<const char*>(data), size);
  strake::testing::WriteFile(*folder / "tokenizer_config.json", content);
  const auto text = strake::ReadChatTemplate(folder->path());
  if (!text.ok()) CHECK(absl::StartsWith(text.status().message(), folder->path()));
  const auto format = strake::ChatFormatOfModel(folder->path());
  CHECK(!format.ok() && absl::StartsWith(format.status().message(), folder->path()));
  return 0;
}
