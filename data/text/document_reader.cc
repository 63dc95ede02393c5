#include "data/text/document_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"
#include "data/text/json_line.h"
#include "data/text/line_reader.h"

namespace strake {
namespace {

class TextReader : public DocumentReader {
 public:
  TextReader(std::unique_ptr<ByteSource> source, const DocumentOptions& options)
      : DocumentReader(std::move(source), options), window_(source_.get()) {}

  absl::Status Start() {
    STRAKE_RETURN_IF_ERROR(window_.Start());
    offset_ = window_.offset();
    return absl::OkStatus();
  }

  absl::StatusOr<bool> Next(DocumentPart* part) override {
    if (ended_) return false;
    if (window_.bytes().empty() && !window_.ended()) STRAKE_RETURN_IF_ERROR(window_.Fill());
    const bool nothing = window_.bytes().empty() && window_.offset() == offset_;
    ended_ = window_.ended();
    if (nothing) {
      STRAKE_RETURN_IF_ERROR(bad_lines_.Empty(source_->name() + ": is empty"));
      return false;
    }
    *part = {window_.bytes(), 0, offset_, ended_};
    window_.Take(part->text.size());
    return true;
  }

 private:
  SourceWindow window_;
  int64_t offset_ = 0;  // of the document
  bool ended_ = false;
};

class JsonLinesReader : public DocumentReader {
 public:
  JsonLinesReader(std::unique_ptr<ByteSource> source, const DocumentOptions& options)
      : DocumentReader(std::move(source), options), lines_(source_.get()) {}

  absl::Status Start() { return lines_.Start(); }

  absl::StatusOr<bool> Next(DocumentPart* part) override {
    while (true) {
      absl::string_view line;
      STRAKE_ASSIGN_OR_RETURN(const bool more, lines_.Next(&line));
      if (!more) return End();
      STRAKE_ASSIGN_OR_RETURN(const bool found, Document(line, &part->text));
      if (!found) continue;
      part->document = num_documents_++;
      part->offset = lines_.offset();
      part->ends_document = true;
      return true;
    }
  }

 private:
  absl::StatusOr<bool> End() {
    if (lines_.number() == 0 && !std::exchange(ended_, true)) {
      STRAKE_RETURN_IF_ERROR(bad_lines_.Empty(source_->name() + ": is empty"));
    }
    return false;
  }

  // The document of the line, or false where it has none and none is needed.
  absl::StatusOr<bool> Document(absl::string_view line, absl::string_view* text) {
    if (std::all_of(line.begin(), line.end(), absl::ascii_isspace)) return false;
    const auto member = JsonStringMember(line, options_.field, &buffer_);
    if (!member.ok()) {
      STRAKE_RETURN_IF_ERROR(
          bad_lines_.Bad(absl::StrCat(lines_.place(), ", ", member.status().message())));
      return false;
    }
    *text = *member;
    if (!text->empty()) return true;
    STRAKE_RETURN_IF_ERROR(
        bad_lines_.Empty(absl::StrCat(lines_.place(), ": its document is empty")));
    return false;
  }

  LineReader lines_;
  int64_t num_documents_ = 0;
  bool ended_ = false;
  std::string buffer_;
};

template <typename Reader>
absl::StatusOr<std::unique_ptr<DocumentReader>> Started(std::unique_ptr<Reader> reader) {
  STRAKE_RETURN_IF_ERROR(reader->Start());
  return reader;
}

}  // namespace

bool IsJsonLines(const std::string& path, const DocumentOptions& options) {
  if (options.format != DocumentOptions::Format::kByName) {
    return options.format == DocumentOptions::Format::kJsonLines;
  }
  std::string name = absl::AsciiStrToLower(path);
  for (const absl::string_view compressed : {".gz", ".zst", ".zstd"}) {
    name = std::string(absl::StripSuffix(name, compressed));
  }
  return absl::EndsWith(name, ".jsonl") || absl::EndsWith(name, ".ndjson");
}

absl::StatusOr<std::unique_ptr<DocumentReader>> DocumentReader::Make(
    const std::string& path, std::unique_ptr<ByteSource> source, const DocumentOptions& options) {
  if (IsJsonLines(path, options)) {
    return Started(std::make_unique<JsonLinesReader>(std::move(source), options));
  }
  return Started(std::make_unique<TextReader>(std::move(source), options));
}

absl::StatusOr<std::unique_ptr<DocumentReader>> DocumentReader::Open(
    const std::string& path, const DocumentOptions& options, std::function<bool()> stop_requested) {
  STRAKE_ASSIGN_OR_RETURN(auto source, ByteSource::Open(path, std::move(stop_requested)));
  return Make(path, std::move(source), options);
}

absl::StatusOr<std::unique_ptr<DocumentReader>> DocumentReader::OfBytes(
    const std::string& name, absl::string_view bytes, const DocumentOptions& options) {
  STRAKE_ASSIGN_OR_RETURN(auto source, ByteSource::OfBytes(name, bytes));
  return Make(name, std::move(source), options);
}

}  // namespace strake
