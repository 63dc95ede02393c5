// ConversationReader: the conversations of a file of JSON lines, one after the other. Memory does
// not grow with the file. It may be compressed with gzip or zstd; "-" is standard input.
#ifndef STRAKE_DATA_CHAT_CONVERSATION_READER_H_
#define STRAKE_DATA_CHAT_CONVERSATION_READER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/fingerprint.h"
#include "data/chat/conversation.h"
#include "data/text/bad_lines.h"
#include "data/text/byte_source.h"
#include "data/text/document_reader.h"
#include "data/text/line_reader.h"

namespace strake {

class ConversationReader {
 public:
  // Of the options, those about bad lines count. Returns an error, naming the file, where it cannot
  // be opened or holds no text. While it waits for a pipe, here and in Next(), it calls
  // stop_requested() as ByteSource does.
  static absl::StatusOr<std::unique_ptr<ConversationReader>> Open(
      const std::string& path, const DocumentOptions& options = {},
      std::function<bool()> stop_requested = {});
  // The same for bytes in memory, which must outlive the reader. `name` is that of the file.
  static absl::StatusOr<std::unique_ptr<ConversationReader>> OfBytes(
      const std::string& name, absl::string_view bytes, const DocumentOptions& options = {});

  // Reads the next conversation, or returns false at the end. Blank lines are none. An error names
  // file, line and column: what ParseConversation() refuses, a compressed stream that is damaged
  // (DataLoss), a file without a conversation.
  absl::StatusOr<bool> Next(Conversation* conversation);

  // Says that the last conversation cannot be written: its line is as bad as one that Next()
  // refuses.
  absl::Status Refuse(const absl::Status& why);

  // Of the last conversation: its line, from 1, and that with the file's name, as messages begin;
  // its line's first byte in the decompressed file.
  int64_t line_number() const { return lines_.number(); }
  std::string place() const { return lines_.place(); }
  int64_t offset() const { return lines_.offset(); }
  // As those of DocumentReader.
  int64_t num_bad_lines() const { return bad_lines_.num_bad(); }
  int64_t num_empty_documents() const { return bad_lines_.num_empty(); }
  const std::string& first_bad_line() const { return bad_lines_.first_bad(); }
  // Bytes read of the file as it is on the disk, for progress, and their fingerprint.
  int64_t bytes_read() const { return source_->bytes_read(); }
  Fingerprint fingerprint() const { return source_->fingerprint(); }

 private:
  ConversationReader(std::unique_ptr<ByteSource> source, const DocumentOptions& options)
      : source_(std::move(source)),
        lines_(source_.get()),
        bad_lines_(options.skip_bad_lines, options.name_of_skip_bad_lines) {}
  static absl::StatusOr<std::unique_ptr<ConversationReader>> Make(
      std::unique_ptr<ByteSource> source, const DocumentOptions& options);
  absl::Status CheckHeldSome();

  const std::unique_ptr<ByteSource> source_;
  LineReader lines_;
  BadLines bad_lines_;
  bool ended_ = false;
  int64_t num_lines_ = 0;  // that are not blank
};

}  // namespace strake

#endif  // STRAKE_DATA_CHAT_CONVERSATION_READER_H_
