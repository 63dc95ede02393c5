// SourceWindow, LineReader: a text from a ByteSource, by parts and by lines; LineAt(). Memory does
// not grow with the file, only with its longest line. A UTF-8 mark (BOM) at the beginning is
// dropped.
#ifndef STRAKE_DATA_TEXT_LINE_READER_H_
#define STRAKE_DATA_TEXT_LINE_READER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/text/byte_source.h"

namespace strake {

// Bytes that were read and not taken, with room for more behind them. The content is checked when
// the first are read.
class SourceWindow {
 public:
  // `source` must outlive it.
  explicit SourceWindow(ByteSource* source);

  // Returns InvalidArgument, naming the file, where it holds no text.
  absl::Status Start();

  absl::string_view bytes() const { return {buffer_.data() + begin_, end_ - begin_}; }
  int64_t offset() const { return offset_; }  // of bytes() in the decompressed file
  bool ended() const { return ended_; }       // nothing follows bytes()

  void Take(size_t n) {
    begin_ += n;
    offset_ += n;
  }
  // Reads until the buffer is full; a full one becomes larger first.
  absl::Status Fill();

 private:
  ByteSource* const source_;
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;
  int64_t offset_ = 0;
  bool ended_ = false;
};

class LineReader {
 public:
  // `source` must outlive it.
  explicit LineReader(ByteSource* source) : name_(source->name()), window_(source) {}

  absl::Status Start() { return window_.Start(); }
  // Reads the next line, without its end, or returns false. It is valid until the next call.
  absl::StatusOr<bool> Next(absl::string_view* line);

  // Of the last line: from 1, or 0 before the first; its first byte's place in the file; both with
  // the file's name, as messages begin.
  int64_t number() const { return number_; }
  int64_t offset() const { return offset_; }
  std::string place() const;

 private:
  const std::string name_;
  SourceWindow window_;
  int64_t number_ = 0, offset_ = 0;
};

// The number, from 1, of the line of a file that begins at a byte of it, decompressed, for
// messages. Reads the file up to there. Nothing where no line begins there, as in a file that has
// changed since, or there is none that can be read twice.
std::optional<int64_t> LineAt(const std::string& path, int64_t offset);

}  // namespace strake

#endif  // STRAKE_DATA_TEXT_LINE_READER_H_
