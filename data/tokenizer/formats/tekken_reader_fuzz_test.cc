// Bytes as a tekken.json: any content gives an error or a sound spec.
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "core/base/json.h"
#include "data/tokenizer/formats/fuzz_tokenizer_spec.h"
#include "data/tokenizer/formats/tekken_reader.h"
#include "nlohmann/json.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto value = strake::ParseJson(text, "fuzz.json");
  if (value.ok()) strake::UseSpec(strake::ReadTekken(*value, "fuzz.json"));
  return 0;
}
