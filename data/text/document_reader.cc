#include "data/text/document_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"
#include "data/text/json_line.h"

namespace strake {
namespace {

constexpr size_t kPartBytes = 1 << 20;
constexpr absl::string_view kMark = "\xef\xbb\xbf";

// Bytes that were read and not taken, with room for more behind them. The content is checked when
// the first are read.
class Window {
 public:
  explicit Window(ByteSource* source) : source_(source), buffer_(kPartBytes) {}

  absl::Status Start() {
    STRAKE_RETURN_IF_ERROR(Fill());
    const ContentKind kind = ContentOfBytes(bytes());
    if (kind.content != FileContent::kText) return NotTextError(source_->name(), kind);
    if (absl::StartsWith(bytes(), kMark)) Take(kMark.size());
    return absl::OkStatus();
  }

  absl::string_view bytes() const { return {buffer_.data() + begin_, end_ - begin_}; }
  int64_t offset() const { return offset_; }  // of bytes() in the decompressed file
  bool ended() const { return ended_; }       // nothing follows bytes()

  void Take(size_t n) {
    begin_ += n;
    offset_ += n;
  }

  // Reads until the buffer is full; a full one becomes larger first.
  absl::Status Fill() {
    if (begin_ == 0 && end_ == buffer_.size()) buffer_.resize(2 * buffer_.size());
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= std::exchange(begin_, 0);
    const size_t room = buffer_.size() - end_;
    STRAKE_ASSIGN_OR_RETURN(const size_t n, source_->Read(buffer_.data() + end_, room));
    end_ += n;
    ended_ = n < room;
    return absl::OkStatus();
  }

 private:
  ByteSource* const source_;
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;
  int64_t offset_ = 0;
  bool ended_ = false;
};

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
      STRAKE_RETURN_IF_ERROR(Empty(source_->name() + ": is empty"));
      return false;
    }
    *part = {window_.bytes(), 0, offset_, ended_};
    window_.Take(part->text.size());
    return true;
  }

 private:
  Window window_;
  int64_t offset_ = 0;  // of the document
  bool ended_ = false;
};

class JsonLinesReader : public DocumentReader {
 public:
  JsonLinesReader(std::unique_ptr<ByteSource> source, const DocumentOptions& options)
      : DocumentReader(std::move(source), options), window_(source_.get()) {}

  absl::Status Start() { return window_.Start(); }

  absl::StatusOr<bool> Next(DocumentPart* part) override {
    while (true) {
      const int64_t offset = window_.offset();
      absl::string_view line;
      STRAKE_ASSIGN_OR_RETURN(const bool more, NextLine(&line));
      if (!more) return End();
      STRAKE_ASSIGN_OR_RETURN(const bool found, Document(line, &part->text));
      if (!found) continue;
      part->document = num_documents_++;
      part->offset = offset;
      part->ends_document = true;
      return true;
    }
  }

 private:
  // The line without its end: valid until the next call.
  absl::StatusOr<bool> NextLine(absl::string_view* line) {
    size_t searched = 0;
    while (true) {
      const absl::string_view bytes = window_.bytes();
      const size_t end = bytes.find('\n', searched);
      if (end != absl::string_view::npos || (window_.ended() && !bytes.empty())) {
        *line = bytes.substr(0, end);
        window_.Take(std::min(end, bytes.size() - 1) + 1);
        ++line_number_;
        return true;
      }
      if (window_.ended()) return false;
      searched = bytes.size();
      STRAKE_RETURN_IF_ERROR(window_.Fill());
    }
  }

  absl::StatusOr<bool> End() {
    if (line_number_++ == 0) STRAKE_RETURN_IF_ERROR(Empty(source_->name() + ": is empty"));
    return false;
  }

  // The document of the line, or false where it has none and none is needed.
  absl::StatusOr<bool> Document(absl::string_view line, absl::string_view* text) {
    const auto here = [&] { return absl::StrCat(source_->name(), ": line ", line_number_); };
    if (std::all_of(line.begin(), line.end(), absl::ascii_isspace)) return false;
    const auto member = JsonStringMember(line, options_.field, &buffer_);
    if (!member.ok()) {
      STRAKE_RETURN_IF_ERROR(Bad(absl::StrCat(here(), ", ", member.status().message())));
      return false;
    }
    *text = *member;
    if (!text->empty()) return true;
    STRAKE_RETURN_IF_ERROR(Empty(absl::StrCat(here(), ": its document is empty")));
    return false;
  }

  Window window_;
  int64_t line_number_ = 0, num_documents_ = 0;
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

absl::Status DocumentReader::NoDocument(absl::string_view message) const {
  const std::string& option = options_.name_of_skip_bad_lines;
  return absl::InvalidArgumentError(
      option.empty() ? std::string(message)
                     : absl::StrCat(message, "; to leave out what is no document, give ", option));
}

absl::Status DocumentReader::Bad(const std::string& message) {
  if (!options_.skip_bad_lines) return NoDocument(message);
  if (num_bad_lines_++ == 0) first_bad_line_ = message;
  return absl::OkStatus();
}

absl::Status DocumentReader::Empty(const std::string& message) {
  if (!options_.skip_bad_lines) return NoDocument(message);
  ++num_empty_documents_;
  return absl::OkStatus();
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
