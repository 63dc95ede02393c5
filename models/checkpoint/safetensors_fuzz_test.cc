// For any bytes, parsing returns an error or entries that tile the file.
#include <cstddef>
#include <cstdint>

#include "core/tensor/tensor.h"
#include "glog/logging.h"
#include "models/checkpoint/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view file(reinterpret_cast<const char*>(data), size);
  const auto entries = strake::ParseSafetensors(file, "fuzz");
  if (!entries.ok()) {
    CHECK(!entries.status().message().empty());
    return 0;
  }
  int64_t end = entries->empty() ? size : entries->front().begin;
  for (const strake::SafetensorsEntry& entry : *entries) {
    CHECK_EQ(entry.begin, end) << entry.name;
    CHECK_GE(entry.end - entry.begin, strake::NumElements(entry.shape)) << entry.name;
    end = entry.end;
  }
  CHECK_EQ(end, static_cast<int64_t>(size));
  return 0;
}
