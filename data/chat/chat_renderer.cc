#include "data/chat/chat_renderer.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "data/chat/white_space.h"

namespace strake {
namespace {

// Returns whether any text of the format has this in it.
bool Uses(const ChatFormat& format, absl::string_view value) {
  for (const absl::string_view text :
       {format.begin, format.user.prefix, format.user.suffix, format.assistant.prefix,
        format.assistant.suffix, format.system.prefix, format.system.suffix,
        format.first_system_prefix.value_or(""), format.generation_prompt, format.answer_begin,
        format.after_answer, format.end_token, format.end}) {
    if (absl::StrContains(text, value)) return true;
  }
  return false;
}

absl::Status Lacks(const ChatFormat& format, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("the chat format ", format.name, " writes ", what));
}

absl::Status Error(const ChatFormat& format, absl::Span<const ChatMessage> messages, size_t i,
                   absl::string_view what) {
  const std::string place =
      messages[i].column > 0 ? absl::StrCat("column ", messages[i].column, ": ") : "";
  return absl::InvalidArgumentError(absl::StrCat(place, "message ", i + 1, ", of the ",
                                                 ChatRoleName(messages[i].role), ": the ",
                                                 "chat format ", format.name, " ", what));
}

// Whether the system's text is written within the user's.
bool JoinsUser(const ChatFormat& format) {
  return format.system_place == SystemPlace::kFirstUser ||
         format.system_place == SystemPlace::kLastUser;
}

bool IsSystem(const ChatMessage& message) { return message.role == ChatRole::kSystem; }

}  // namespace

class ChatRenderer::Writer {
 public:
  Writer(const ChatRenderer& renderer, absl::Span<const ChatMessage> messages)
      : renderer_(renderer), format_(*renderer.format_), messages_(messages) {}

  RenderedChat Write(bool add_generation_prompt) {
    Add(format_.begin);
    const bool joins = IsSystem(messages_[0]) && JoinsUser(format_);
    if (!IsSystem(messages_[0]) && format_.default_system.has_value()) {
      AddSystem(*format_.default_system, /*is_first=*/true);
    }
    for (size_t i = joins ? 1 : 0; i < messages_.size(); ++i) AddMessage(i, joins);
    if (add_generation_prompt) {
      Add(format_.generation_prompt);
    } else {
      AddEnd();
    }
    return std::move(chat_);
  }

 private:
  void Add(absl::string_view text) { chat_.text += renderer_.Filled(text); }

  void AddContent(absl::string_view content, bool strips) {
    if (strips) content = StripWhiteSpace(content);
    chat_.text.append(content.data(), content.size());
  }

  void AddMessage(size_t i, bool joins) {
    const std::string& content = messages_[i].content;
    switch (messages_[i].role) {
      case ChatRole::kSystem:
        return AddSystem(content, /*is_first=*/i == 0);
      case ChatRole::kAssistant:
        return AddAnswer(content);
      case ChatRole::kUser:
        const bool is_place =
            i == (format_.system_place == SystemPlace::kFirstUser ? 1 : messages_.size() - 1);
        return AddUser(content, joins && is_place);
    }
  }

  void AddSystem(absl::string_view content, bool is_first) {
    if (content.empty() && format_.drops_empty_system) return;
    Add(is_first ? format_.first_system_prefix.value_or(format_.system.prefix)
                 : format_.system.prefix);
    AddContent(content, format_.system.strips);
    Add(format_.system.suffix);
  }

  void AddUser(absl::string_view content, bool with_system) {
    Add(format_.user.prefix);
    const std::string system =
        with_system ? absl::StrCat(renderer_.Filled(format_.system.prefix), messages_[0].content,
                                   renderer_.Filled(format_.system.suffix))
                    : "";
    if (format_.strips_with_system) {
      AddContent(absl::StrCat(system, content), format_.user.strips);
    } else {
      chat_.text += system;
      AddContent(content, format_.user.strips);
    }
    Add(format_.user.suffix);
  }

  void AddAnswer(absl::string_view content) {
    Add(format_.assistant.prefix);
    const size_t begin = chat_.text.size();
    Add(format_.answer_begin);
    AddContent(content, format_.assistant.strips);
    Add(format_.assistant.suffix);
    chat_.answers.push_back({begin, chat_.text.size()});
    Add(format_.after_answer);
  }

  // The end belongs to an answer that it follows.
  void AddEnd() {
    const bool follows = !chat_.answers.empty() && chat_.answers.back().end == chat_.text.size();
    Add(format_.end);
    if (follows) chat_.answers.back().end = chat_.text.size();
  }

  const ChatRenderer& renderer_;
  const ChatFormat& format_;
  const absl::Span<const ChatMessage> messages_;
  RenderedChat chat_;
};

absl::StatusOr<ChatRenderer> ChatRenderer::Create(const ChatFormat* format,
                                                  const ChatValues& values) {
  ChatValues filled = values;
  if (filled.date.empty()) filled.date = std::string(format->default_date);
  if (Uses(*format, "{date}") && filled.date.empty()) {
    return Lacks(*format, "the date: give one, such as 26 Jul 2024");
  }
  if (Uses(*format, "{bos}") && !filled.begin_of_text.has_value()) {
    return Lacks(*format, "the token that begins a text, and the tokenizer names none (bos_token)");
  }
  if (Uses(*format, "{eos}") && !filled.end_of_text.has_value()) {
    return Lacks(*format, "the token that ends a text, and the tokenizer names none (eos_token)");
  }
  return ChatRenderer(format, std::move(filled));
}

std::string ChatRenderer::Filled(absl::string_view text) const {
  return absl::StrReplaceAll(text, {{"{bos}", values_.begin_of_text.value_or("")},
                                    {"{eos}", values_.end_of_text.value_or("")},
                                    {"{date}", values_.date}});
}

absl::Status ChatRenderer::CheckSystem(absl::Span<const ChatMessage> messages) const {
  if (format_->system_place == SystemPlace::kTurn) return absl::OkStatus();
  const bool nowhere = format_->system_place == SystemPlace::kNowhere;
  for (size_t i = nowhere ? 0 : 1; i < messages.size(); ++i) {
    if (!IsSystem(messages[i])) continue;
    return Error(*format_, messages, i,
                 nowhere
                     ? "has no role system: write its text into the user's first message"
                     : "has the system speak first alone: write its text into the first message");
  }
  return absl::OkStatus();
}

absl::Status ChatRenderer::Check(absl::Span<const ChatMessage> messages) const {
  if (messages.empty()) return absl::InvalidArgumentError("a conversation without a message");
  STRAKE_RETURN_IF_ERROR(CheckSystem(messages));
  if (!format_->alternates) return absl::OkStatus();
  const size_t first = IsSystem(messages[0]) ? 1 : 0;
  for (size_t i = first; i < messages.size(); ++i) {
    const ChatRole expected = (i - first) % 2 == 0 ? ChatRole::kUser : ChatRole::kAssistant;
    if (messages[i].role == expected) continue;
    return Error(*format_, messages, i,
                 absl::StrCat("has user and assistant take turns, and here the ",
                              ChatRoleName(expected), "'s message is due"));
  }
  if (first < messages.size()) return absl::OkStatus();
  return Error(*format_, messages, 0, "writes it into a message of the user, and there is none");
}

absl::StatusOr<RenderedChat> ChatRenderer::Render(absl::Span<const ChatMessage> messages,
                                                  bool add_generation_prompt) const {
  STRAKE_RETURN_IF_ERROR(Check(messages));
  return Writer(*this, messages).Write(add_generation_prompt);
}

// Of conversations that have everything that formats tell apart.
uint64_t ChatRenderer::Fingerprint() const {
  const ChatMessage system = {ChatRole::kSystem, " s "}, no_system = {ChatRole::kSystem, ""};
  const ChatMessage user = {ChatRole::kUser, " u "}, answer = {ChatRole::kAssistant, " a "};
  std::string texts;
  for (const bool prompts : {false, true}) {
    for (const std::vector<ChatMessage>& messages :
         {std::vector{user, answer, user, answer}, {system, user, answer}, {no_system, user}}) {
      const auto chat = Render(messages, prompts);
      absl::StrAppend(&texts, chat.ok() ? chat->text : "refused", "\n");
      if (!chat.ok()) continue;
      for (const TextSpan& span : chat->answers) {
        absl::StrAppend(&texts, span.begin, " ", span.end, "\n");
      }
    }
  }
  return StableHash(absl::StrCat(texts, end_token()));
}

}  // namespace strake
