// Conversation: what one line of a file to learn from holds, in the forms that TRL reads too.
//
//   {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
//   {"prompt": [... messages ...], "completion": [... messages ...]}
//   {"prompt": "1 + 1 =", "completion": " 2"}
//
// Other members of the line change nothing. Of a message they may be null alone: what they mean
// would be lost.
#ifndef STRAKE_DATA_CHAT_CONVERSATION_H_
#define STRAKE_DATA_CHAT_CONVERSATION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

enum class ChatRole : uint8_t { kSystem, kUser, kAssistant };

// "system", "user", "assistant".
absl::string_view ChatRoleName(ChatRole role);

struct ChatMessage {
  ChatRole role = ChatRole::kUser;
  std::string content = {};
  int64_t column = 0;  // where it stands in its line, from 1; 0: nowhere
};

struct Conversation {
  enum class Form : uint8_t { kMessages, kPromptAndCompletion, kTexts };
  Form form = Form::kMessages;
  // Of kPromptAndCompletion: first those of the prompt.
  std::vector<ChatMessage> messages = {};
  size_t num_prompt_messages = 0;
  std::string prompt = {}, completion = {};  // kTexts
};

// InvalidArgument, beginning with "column N: ", counted in bytes from 1, for a line that is no JSON
// object of one of these forms, a role other than the three, a conversation that does not end with
// an answer, a prompt of messages that does not end with one of the user, and an answer of white
// space alone.
absl::StatusOr<Conversation> ParseConversation(absl::string_view line);

}  // namespace strake

#endif  // STRAKE_DATA_CHAT_CONVERSATION_H_
