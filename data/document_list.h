// Names of documents in training data, and lists of them as users write them.
//
//   # lines of noise
//   books/a.jsonl:10342
//
// A line is PATH:OFFSET: the path of a text, as it was given, and the byte of the decompressed text
// at which the document begins, of JSON lines that of its line. Of text that is one document it is
// 0. Blank lines, and those that begin with #, are comments. A byte of a path that would not be
// seen or read back is written \xNN: control characters, \ itself, and a # or blank at the
// beginning.
#ifndef STRAKE_DATA_DOCUMENT_LIST_H_
#define STRAKE_DATA_DOCUMENT_LIST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

struct DocumentName {
  std::string path = {};
  int64_t offset = 0;
  friend auto operator<=>(const DocumentName&, const DocumentName&) = default;
};

// "books/a.jsonl:10342".
std::string ToListLine(const DocumentName& name);

struct ListedDocument {
  DocumentName name = {};
  int64_t line = 0;  // of the list, from 1
};

// The documents of a list, in its order; one may be named several times. InvalidArgument, with
// `source`, the list's name, and the line, for a line that is no PATH:OFFSET.
absl::StatusOr<std::vector<ListedDocument>> ParseDocumentList(absl::string_view list,
                                                              absl::string_view source);

}  // namespace strake

#endif  // STRAKE_DATA_DOCUMENT_LIST_H_
