// Lines as conversations: any bytes give an error, or a conversation that every format refuses or
// writes with its contents and answers in it.
#include <cstdint>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "data/chat/chat_format.h"
#include "data/chat/chat_renderer.h"
#include "data/chat/conversation.h"
#include "data/chat/white_space.h"
#include "glog/logging.h"

namespace strake {
namespace {

void CheckText(const Conversation& conversation, const ChatFormat& format,
               const RenderedChat& chat) {
  size_t at = 0, num_answers = 0;
  for (const ChatMessage& message : conversation.messages) {
    const absl::string_view content = StripWhiteSpace(message.content);
    if (message.role != ChatRole::kAssistant) {
      const bool is_kept =
          message.role == ChatRole::kUser || format.system_place == SystemPlace::kTurn;
      CHECK(!is_kept || absl::StrContains(chat.text, content));
      continue;
    }
    const TextSpan span = chat.answers.at(num_answers++);
    CHECK(at <= span.begin && span.begin < span.end && span.end <= chat.text.size());
    CHECK(absl::StrContains(chat.text.substr(span.begin, span.end - span.begin), content));
    at = span.end;
  }
  CHECK_EQ(num_answers, chat.answers.size());
}

void Check(absl::string_view line) {
  const auto conversation = ParseConversation(line);
  if (!conversation.ok()) {
    CHECK(absl::StartsWith(conversation.status().message(), "column "));
    return;
  }
  if (conversation->form == Conversation::Form::kTexts) return;
  CHECK(conversation->messages.back().role == ChatRole::kAssistant);
  for (const ChatFormat& format : ChatFormats()) {
    const auto renderer = ChatRenderer::Create(&format, {"<s>", "</s>", "1 Jan 2026"});
    const auto chat = renderer->Render(conversation->messages, /*add_generation_prompt=*/false);
    if (chat.ok()) CheckText(*conversation, format, *chat);
  }
}

}  // namespace
}  // namespace strake

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view content(reinterpret_cast<const char*>(data), size);
  for (const absl::string_view line : absl::StrSplit(content, '\n')) strake::Check(line);
  return 0;
}
