// For any list, parsing it returns an error, or documents whose names, written and read again, are
// the same. For any path, its name is read back.
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "data/document_list.h"
#include "glog/logging.h"

namespace {

void CheckIsReadBack(const strake::DocumentName& name) {
  const std::string text = strake::ToListLine(name);
  const auto again = strake::ParseDocumentList(text, "list");
  CHECK(again.ok()) << again.status();
  CHECK(again->size() == 1 && again->front().name == name) << text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  if (size > 0) CheckIsReadBack({std::string(text), static_cast<int64_t>(size)});
  const auto list = strake::ParseDocumentList(text, "list");
  if (!list.ok()) {
    CHECK(!list.status().message().empty());
    return 0;
  }
  int64_t line = 0;
  for (const strake::ListedDocument& document : *list) {
    CHECK(document.line > line && document.name.offset >= 0 && !document.name.path.empty());
    line = document.line;
    CheckIsReadBack(document.name);
  }
  return 0;
}
