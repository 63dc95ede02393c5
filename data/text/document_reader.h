// DocumentReader: the documents of a file, one after the other. Memory does not grow with the file,
// only with its longest JSON line.
//
//   *.jsonl, *.ndjson   an object a line, whose member "field" is the document; blank ones are none
//   other text          one document
//
// Each may be compressed with gzip or zstd (the content decides, not the name, which may end in
// .gz, .zst or .zstd). "-" is standard input. A UTF-8 mark (BOM) at the beginning is dropped. What
// the documents' bytes are is not looked at: ends of lines stay as they are.
#ifndef STRAKE_DATA_TEXT_DOCUMENT_READER_H_
#define STRAKE_DATA_TEXT_DOCUMENT_READER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/fingerprint.h"
#include "data/text/bad_lines.h"
#include "data/text/byte_source.h"

namespace strake {

struct DocumentOptions {
  std::string field = "text";  // of JSON lines
  // Counts lines that are no such object, and documents without a byte, rather than return an
  // error.
  bool skip_bad_lines = false;
  // What a program calls that option, for its errors: "" where it has none.
  std::string name_of_skip_bad_lines = {};
  enum class Format : uint8_t { kByName, kText, kJsonLines };
  Format format = Format::kByName;
};

// Whether the file is read as JSON lines.
bool IsJsonLines(const std::string& path, const DocumentOptions& options);

// A part of a document: a text comes in parts of 1 MiB, the last of which may be empty.
struct DocumentPart {
  absl::string_view text;  // valid until the next call
  int64_t document = 0;    // its number in the file
  // The byte of the decompressed file at which the document, or its JSON line, begins.
  int64_t offset = 0;
  bool ends_document = false;
};

class DocumentReader {
 public:
  // Returns an error, naming the file, where it cannot be opened or holds no text. While it waits
  // for a pipe, here and in Next(), it calls stop_requested() as ByteSource does.
  static absl::StatusOr<std::unique_ptr<DocumentReader>> Open(
      const std::string& path, const DocumentOptions& options,
      std::function<bool()> stop_requested = {});
  // The same for bytes in memory, which must outlive the reader. `name` is that of the file.
  static absl::StatusOr<std::unique_ptr<DocumentReader>> OfBytes(const std::string& name,
                                                                 absl::string_view bytes,
                                                                 const DocumentOptions& options);
  virtual ~DocumentReader() = default;

  // Reads the next part, or returns false at the end. An error names the file and, of JSON lines,
  // line and column: JSON that is broken, a member that is missing or no string (InvalidArgument),
  // a compressed stream that is cut off or damaged (DataLoss), a document without a byte.
  virtual absl::StatusOr<bool> Next(DocumentPart* part) = 0;

  int64_t num_bad_lines() const { return bad_lines_.num_bad(); }
  int64_t num_empty_documents() const { return bad_lines_.num_empty(); }
  // What the error of the first of the bad lines would be; empty without one.
  const std::string& first_bad_line() const { return bad_lines_.first_bad(); }
  // Bytes read of the file as it is on the disk, for progress, and their fingerprint.
  int64_t bytes_read() const { return source_->bytes_read(); }
  Fingerprint fingerprint() const { return source_->fingerprint(); }

 protected:
  DocumentReader(std::unique_ptr<ByteSource> source, const DocumentOptions& options)
      : source_(std::move(source)),
        options_(options),
        bad_lines_(options.skip_bad_lines, options.name_of_skip_bad_lines) {}

  const std::unique_ptr<ByteSource> source_;
  const DocumentOptions options_;
  BadLines bad_lines_;

 private:
  static absl::StatusOr<std::unique_ptr<DocumentReader>> Make(const std::string& path,
                                                              std::unique_ptr<ByteSource> source,
                                                              const DocumentOptions& options);
};

}  // namespace strake

#endif  // STRAKE_DATA_TEXT_DOCUMENT_READER_H_
