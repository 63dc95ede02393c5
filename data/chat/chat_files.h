// Which files are of conversations, and how they become tokens to learn.
#ifndef STRAKE_DATA_CHAT_CHAT_FILES_H_
#define STRAKE_DATA_CHAT_CHAT_FILES_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/chat/chat_encoder.h"
#include "data/chat/chat_format.h"
#include "data/chat/conversation.h"
#include "data/tokenizer/tokenizer.h"

namespace strake {

// The date that formats write into conversations to learn. Of today, the data of a run would change
// from day to day. The templates that have a date have this one where they are told no other.
inline constexpr absl::string_view kTrainingDate = "26 Jul 2024";

// The form of the conversation that the line holds, as far as the names of its members tell:
// "messages", or "prompt" and "completion". Nothing where it is no JSON object, has none of these,
// or has the member `text_field`, which makes it a text.
std::optional<Conversation::Form> FormOfLine(absl::string_view line, absl::string_view text_field);

// That of the first line which is an object, of a file whose name is that of JSON lines. Nothing
// for other files, pipes, and what cannot be read.
std::optional<Conversation::Form> FormOfFile(const std::string& path, absl::string_view text_field);

struct ChatFilesOptions {
  std::vector<std::string> files = {};
  bool all_are_chats = false;  // whatever their names and first lines are
  std::string text_field = "text";
  std::string format = {};  // of ChatFormats(); "": that of the model's chat template
  std::string folder = {};  // of the model; "": there is none
  // What a program calls the options, for errors.
  std::string name_of_files = "files", name_of_format = "chat_format";
};

// Nothing where no file is of conversations. InvalidArgument, naming option and files, where some
// are and others are not, for a format that does not exist or fit the tokenizer, and where messages
// need a format and none is known. `tokenizer` must outlive the result.
absl::StatusOr<std::optional<ChatEncoder>> OpenChatFiles(const ChatFilesOptions& options,
                                                         const Tokenizer* tokenizer);

}  // namespace strake

#endif  // STRAKE_DATA_CHAT_CHAT_FILES_H_
