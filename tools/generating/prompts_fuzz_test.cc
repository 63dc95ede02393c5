// Bytes as a file of prompts: any content gives an error, or prompts.
#include <cstdint>
#include <string>

#include "glog/logging.h"
#include "tools/generating/prompts.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view content(reinterpret_cast<const char*>(data), size);
  for (const char* path : {"fuzz.jsonl", "fuzz.txt"}) {
    const auto prompts = strake::ParsePrompts(content, path);
    if (prompts.ok()) CHECK(!prompts->empty());
  }
  return 0;
}
