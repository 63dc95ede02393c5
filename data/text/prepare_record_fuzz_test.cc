// Bytes as a record of prepared tokens: any content gives an error, or values that can be used.
#include <cstdint>
#include <string>

#include "data/text/prepare_record.h"
#include "glog/logging.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto record = strake::ParsePrepareRecord("fuzz.json", text);
  if (!record.ok()) return 0;
  CHECK(record->next.source >= 0 && record->next.source <= record->sources.size());
  CHECK(record->next.document >= 0 && record->next.piece >= 0);
  for (const strake::PrepareSource& source : record->sources) CHECK_GE(source.num_bytes, -1);
  for (const strake::PrepareFile& file : record->files) CHECK_GE(file.num_tokens, 0);
  return 0;
}
