// Bytes as an index of documents: any content gives an error, or an index that is written as the
// same bytes. The checksum is made right first, so that what it protects is reached.
#include <cstdint>
#include <cstring>
#include <string>

#include "core/base/crc32c.h"
#include "data/document_index.h"
#include "glog/logging.h"

namespace strake {
namespace {

void Parse(absl::string_view content) {
  const auto index = ParseDocumentIndex("fuzz.documents", content);
  if (!index.ok()) return;
  CHECK(DocumentIndexBytes(*index) == content);
  for (const auto& document : index->documents) {
    CHECK(document.begin >= 0 && document.begin <= index->num_tokens);
    CHECK(document.source >= 0 && document.source < index->sources.size());
  }
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
