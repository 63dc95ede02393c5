#include "data/chat/conversation_reader.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace strake {

absl::StatusOr<std::unique_ptr<ConversationReader>> ConversationReader::Make(
    std::unique_ptr<ByteSource> source) {
  std::unique_ptr<ConversationReader> reader(new ConversationReader(std::move(source)));
  STRAKE_RETURN_IF_ERROR(reader->lines_.Start());
  return reader;
}

absl::StatusOr<std::unique_ptr<ConversationReader>> ConversationReader::Open(
    const std::string& path, std::function<bool()> stop_requested) {
  STRAKE_ASSIGN_OR_RETURN(auto source, ByteSource::Open(path, std::move(stop_requested)));
  return Make(std::move(source));
}

absl::StatusOr<std::unique_ptr<ConversationReader>> ConversationReader::OfBytes(
    const std::string& name, absl::string_view bytes) {
  STRAKE_ASSIGN_OR_RETURN(auto source, ByteSource::OfBytes(name, bytes));
  return Make(std::move(source));
}

absl::StatusOr<bool> ConversationReader::Next(Conversation* conversation) {
  absl::string_view line;
  do {
    STRAKE_ASSIGN_OR_RETURN(const bool more, lines_.Next(&line));
    if (more) continue;
    if (num_conversations_ > 0) return false;
    return absl::InvalidArgumentError(absl::StrCat(source_->name(), ": holds no conversation"));
  } while (std::all_of(line.begin(), line.end(), absl::ascii_isspace));
  auto parsed = ParseConversation(line);
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(place(), ", ", parsed.status().message()));
  }
  *conversation = *std::move(parsed);
  ++num_conversations_;
  return true;
}

}  // namespace strake
