// Bytes as a file of documents: any content gives an error, or documents that lie in the file.
#include <cstdint>
#include <string>

#include "data/text/document_reader.h"
#include "glog/logging.h"

namespace strake {
namespace {

void Read(const std::string& name, absl::string_view content, bool skip_bad_lines) {
  DocumentOptions options;
  options.skip_bad_lines = skip_bad_lines;
  const auto reader = DocumentReader::OfBytes(name, content, options);
  if (!reader.ok()) return;
  DocumentPart part;
  int64_t num_documents = 0;
  size_t num_bytes = 0;
  while (true) {
    const auto more = (*reader)->Next(&part);
    CHECK(more.ok() || !skip_bad_lines) << more.status();
    if (!more.ok() || !*more) break;
    CHECK_EQ(part.document, num_documents);
    CHECK(part.offset >= 0 && part.offset < content.size()) << part.offset;
    num_documents += part.ends_document;
    num_bytes += part.text.size();
  }
  CHECK_LE(num_bytes, content.size());
}

}  // namespace
}  // namespace strake

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view content(reinterpret_cast<const char*>(data), size);
  if (strake::ContentOfBytes(content).content != strake::FileContent::kText) return 0;
  for (const bool skip_bad_lines : {false, true}) {
    strake::Read("fuzz.txt", content, skip_bad_lines);
    strake::Read("fuzz.jsonl", content, skip_bad_lines);
  }
  return 0;
}
