#include "data/chat/conversation.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"
#include "data/chat/white_space.h"
#include "data/text/json_line.h"

namespace strake {
namespace {

using Kind = JsonNode::Kind;

constexpr ChatRole kRoles[] = {ChatRole::kSystem, ChatRole::kUser, ChatRole::kAssistant};

absl::Status Error(int64_t column, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("column ", column, ": ", what));
}

absl::Status WrongKind(absl::string_view what, const JsonNode& node, absl::string_view expected) {
  return Error(node.column, absl::StrCat(what, " is ", KindName(node.kind), ", not ", expected));
}

// Null where there is no such member.
absl::StatusOr<const JsonNode*> Find(const JsonNode& object, absl::string_view name) {
  const JsonNode* found = nullptr;
  for (size_t i = 0; i < object.names.size(); ++i) {
    if (object.names[i] != name) continue;
    const JsonNode& value = object.values[i];
    if (found != nullptr) {
      return Error(value.column, absl::StrCat("member \"", name, "\" is there twice"));
    }
    found = &value;
  }
  return found;
}

absl::StatusOr<const JsonNode*> FindString(const JsonNode& object, absl::string_view name,
                                           absl::string_view where) {
  STRAKE_ASSIGN_OR_RETURN(const JsonNode* const member, Find(object, name));
  if (member == nullptr) {
    return Error(object.column, absl::StrCat(where, " has no member \"", name, "\""));
  }
  if (member->kind == Kind::kString) return member;
  return WrongKind(absl::StrCat("\"", name, "\" of ", where), *member, "a string");
}

absl::StatusOr<ChatRole> ParseRole(const JsonNode& node, absl::string_view where) {
  for (const ChatRole role : kRoles) {
    if (node.text == ChatRoleName(role)) return role;
  }
  return Error(node.column, absl::StrCat(where, " has the role \"", Printable(node.text),
                                         "\"; known are system, user and assistant"));
}

absl::Status CheckMembers(const JsonNode& object, absl::string_view where) {
  for (size_t i = 0; i < object.names.size(); ++i) {
    const JsonNode& value = object.values[i];
    const bool known = object.names[i] == "role" || object.names[i] == "content";
    if (known || value.kind == Kind::kNull) continue;
    return Error(value.column,
                 absl::StrCat("\"", Printable(object.names[i]), "\" of ", where,
                              " would be lost: a message has a role and a content; leave it out"));
  }
  return absl::OkStatus();
}

absl::StatusOr<ChatMessage> ParseMessage(const JsonNode& node, absl::string_view where) {
  if (node.kind != Kind::kObject) return WrongKind(where, node, "an object");
  STRAKE_RETURN_IF_ERROR(CheckMembers(node, where));
  STRAKE_ASSIGN_OR_RETURN(const JsonNode* const role, FindString(node, "role", where));
  STRAKE_ASSIGN_OR_RETURN(const JsonNode* const content, FindString(node, "content", where));
  ChatMessage message;
  STRAKE_ASSIGN_OR_RETURN(message.role, ParseRole(*role, where));
  message.content = content->text;
  message.column = node.column;
  const bool is_answer = message.role == ChatRole::kAssistant;
  if (is_answer && StripWhiteSpace(message.content).empty()) {
    return Error(content->column, absl::StrCat(where,
                                               " is an empty answer: write one, or leave the "
                                               "conversation out"));
  }
  return message;
}

absl::Status ParseMessages(const JsonNode& list, absl::string_view name,
                           std::vector<ChatMessage>* messages) {
  if (list.values.empty()) {
    return Error(list.column, absl::StrCat("\"", name, "\" holds no message"));
  }
  for (size_t i = 0; i < list.values.size(); ++i) {
    const std::string where = absl::StrCat("message ", i + 1, " of \"", name, "\"");
    STRAKE_ASSIGN_OR_RETURN(ChatMessage message, ParseMessage(list.values[i], where));
    messages->push_back(std::move(message));
  }
  return absl::OkStatus();
}

absl::Status CheckEndsWithAnswer(const ChatMessage& last) {
  if (last.role == ChatRole::kAssistant) return absl::OkStatus();
  return Error(last.column,
               absl::StrCat("the conversation ends with a message of the ", ChatRoleName(last.role),
                            ", so there is no answer to learn: add one, or leave it out"));
}

absl::StatusOr<Conversation> ParseList(const JsonNode& messages) {
  if (messages.kind != Kind::kArray) return WrongKind("\"messages\"", messages, "an array");
  Conversation conversation;
  STRAKE_RETURN_IF_ERROR(ParseMessages(messages, "messages", &conversation.messages));
  STRAKE_RETURN_IF_ERROR(CheckEndsWithAnswer(conversation.messages.back()));
  return conversation;
}

absl::StatusOr<Conversation> ParseTexts(const JsonNode& prompt, const JsonNode& completion) {
  if (StripWhiteSpace(completion.text).empty()) {
    return Error(completion.column, "\"completion\" is empty: write one, or leave the line out");
  }
  Conversation conversation;
  conversation.form = Conversation::Form::kTexts;
  conversation.prompt = prompt.text;
  conversation.completion = completion.text;
  return conversation;
}

absl::StatusOr<Conversation> ParseTwoLists(const JsonNode& prompt, const JsonNode& completion) {
  Conversation conversation;
  conversation.form = Conversation::Form::kPromptAndCompletion;
  std::vector<ChatMessage>& messages = conversation.messages;
  STRAKE_RETURN_IF_ERROR(ParseMessages(prompt, "prompt", &messages));
  const ChatMessage& last = messages.back();
  if (last.role != ChatRole::kUser) {
    return Error(last.column,
                 absl::StrCat("\"prompt\" ends with a message of the ", ChatRoleName(last.role),
                              "; it must end with the user's"));
  }
  const size_t num_prompt_messages = messages.size();
  STRAKE_RETURN_IF_ERROR(ParseMessages(completion, "completion", &messages));
  const ChatMessage& first = messages[num_prompt_messages];
  if (first.role != ChatRole::kAssistant) {
    return Error(first.column,
                 absl::StrCat("\"completion\" begins with a message of the ",
                              ChatRoleName(first.role), "; it must begin with an answer"));
  }
  STRAKE_RETURN_IF_ERROR(CheckEndsWithAnswer(messages.back()));
  conversation.num_prompt_messages = num_prompt_messages;
  return conversation;
}

absl::StatusOr<Conversation> ParsePair(const JsonNode& prompt, const JsonNode& completion) {
  if (prompt.kind == Kind::kString && completion.kind == Kind::kString) {
    return ParseTexts(prompt, completion);
  }
  if (prompt.kind == Kind::kArray && completion.kind == Kind::kArray) {
    return ParseTwoLists(prompt, completion);
  }
  return Error(completion.column,
               absl::StrCat("\"prompt\" is ", KindName(prompt.kind), " and \"completion\" ",
                            KindName(completion.kind),
                            "; they must be two strings, or two arrays of messages"));
}

absl::Status WrongMembers(const JsonNode& line) {
  constexpr size_t kMaxNames = 10;
  const size_t num_names = std::min(line.names.size(), kMaxNames);
  const std::vector<std::string> names(line.names.begin(), line.names.begin() + num_names);
  return Error(line.column,
               absl::StrCat("the line must have \"messages\", or else \"prompt\" and "
                            "\"completion\"; it has ",
                            names.empty() ? "no member" : Printable(absl::StrJoin(names, ", ")),
                            num_names < line.names.size() ? ", ..." : ""));
}

// What templates write of tools is not written here.
absl::Status CheckTools(const JsonNode& line) {
  STRAKE_ASSIGN_OR_RETURN(const JsonNode* const tools, Find(line, "tools"));
  if (tools == nullptr || tools->kind == Kind::kNull) return absl::OkStatus();
  return Error(tools->column, "\"tools\" are not supported: leave them out");
}

}  // namespace

absl::string_view ChatRoleName(ChatRole role) {
  constexpr absl::string_view kNames[] = {"system", "user", "assistant"};
  return kNames[static_cast<int>(role)];
}

absl::StatusOr<Conversation> ParseConversation(absl::string_view line) {
  STRAKE_ASSIGN_OR_RETURN(const JsonNode node, ParseJsonObject(line));
  STRAKE_RETURN_IF_ERROR(CheckTools(node));
  STRAKE_ASSIGN_OR_RETURN(const JsonNode* const messages, Find(node, "messages"));
  STRAKE_ASSIGN_OR_RETURN(const JsonNode* const prompt, Find(node, "prompt"));
  STRAKE_ASSIGN_OR_RETURN(const JsonNode* const completion, Find(node, "completion"));
  const bool has_list = messages != nullptr;
  const bool has_pair = prompt != nullptr && completion != nullptr;
  const bool has_part = prompt != nullptr || completion != nullptr;
  if (has_list && !has_part) return ParseList(*messages);
  if (has_pair && !has_list) return ParsePair(*prompt, *completion);
  return WrongMembers(node);
}

}  // namespace strake
