#include "data/chat/conversation_reader.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace strake {

absl::StatusOr<std::unique_ptr<ConversationReader>> ConversationReader::Make(
    std::unique_ptr<ByteSource> source, const DocumentOptions& options) {
  std::unique_ptr<ConversationReader> reader(new ConversationReader(std::move(source), options));
  STRAKE_RETURN_IF_ERROR(reader->lines_.Start());
  return reader;
}

absl::StatusOr<std::unique_ptr<ConversationReader>> ConversationReader::Open(
    const std::string& path, const DocumentOptions& options, std::function<bool()> stop_requested) {
  STRAKE_ASSIGN_OR_RETURN(auto source, ByteSource::Open(path, std::move(stop_requested)));
  return Make(std::move(source), options);
}

absl::StatusOr<std::unique_ptr<ConversationReader>> ConversationReader::OfBytes(
    const std::string& name, absl::string_view bytes, const DocumentOptions& options) {
  STRAKE_ASSIGN_OR_RETURN(auto source, ByteSource::OfBytes(name, bytes));
  return Make(std::move(source), options);
}

absl::Status ConversationReader::CheckHeldSome() {
  if (num_lines_ > 0 || std::exchange(ended_, true)) return absl::OkStatus();
  return bad_lines_.Empty(absl::StrCat(source_->name(), ": holds no conversation"));
}

absl::Status ConversationReader::Refuse(const absl::Status& why) {
  const absl::string_view separator = absl::StartsWith(why.message(), "column ") ? ", " : ": ";
  return bad_lines_.Bad(absl::StrCat(place(), separator, why.message()));
}

absl::StatusOr<bool> ConversationReader::Next(Conversation* conversation) {
  while (true) {
    absl::string_view line;
    STRAKE_ASSIGN_OR_RETURN(const bool more, lines_.Next(&line));
    if (!more) {
      STRAKE_RETURN_IF_ERROR(CheckHeldSome());
      return false;
    }
    if (std::all_of(line.begin(), line.end(), absl::ascii_isspace)) continue;
    ++num_lines_;
    auto parsed = ParseConversation(line);
    if (parsed.ok()) {
      *conversation = *std::move(parsed);
      return true;
    }
    STRAKE_RETURN_IF_ERROR(Refuse(parsed.status()));
  }
}

}  // namespace strake
