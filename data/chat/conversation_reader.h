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
#include "data/text/byte_source.h"
#include "data/text/line_reader.h"

namespace strake {

class ConversationReader {
 public:
  // Returns an error, naming the file, where it cannot be opened or holds no text. While it waits
  // for a pipe, here and in Next(), it calls stop_requested() as ByteSource does.
  static absl::StatusOr<std::unique_ptr<ConversationReader>> Open(
      const std::string& path, std::function<bool()> stop_requested = {});
  // The same for bytes in memory, which must outlive the reader. `name` is that of the file.
  static absl::StatusOr<std::unique_ptr<ConversationReader>> OfBytes(const std::string& name,
                                                                     absl::string_view bytes);

  // Reads the next conversation, or returns false at the end. Blank lines are none. An error names
  // file, line and column: what ParseConversation() refuses, a compressed stream that is damaged
  // (DataLoss), a file without a conversation.
  absl::StatusOr<bool> Next(Conversation* conversation);

  // Of the last conversation: its line, from 1, and that with the file's name, as messages begin.
  int64_t line_number() const { return lines_.number(); }
  std::string place() const { return lines_.place(); }
  // Bytes read of the file as it is on the disk, for progress, and their fingerprint.
  int64_t bytes_read() const { return source_->bytes_read(); }
  Fingerprint fingerprint() const { return source_->fingerprint(); }

 private:
  explicit ConversationReader(std::unique_ptr<ByteSource> source)
      : source_(std::move(source)), lines_(source_.get()) {}
  static absl::StatusOr<std::unique_ptr<ConversationReader>> Make(
      std::unique_ptr<ByteSource> source);

  const std::unique_ptr<ByteSource> source_;
  LineReader lines_;
  int64_t num_conversations_ = 0;
};

}  // namespace strake

#endif  // STRAKE_DATA_CHAT_CONVERSATION_READER_H_
