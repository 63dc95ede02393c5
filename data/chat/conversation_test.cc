#include "data/chat/conversation.h"

#include <string>
#include <vector>

#include "core/testing/temp_directory.h"
#include "data/chat/conversation_reader.h"
#include "data/chat/white_space.h"
#include "data/text/compress.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Form = Conversation::Form;

const char kUser[] = R"({"role": "user", "content": "Hi"})";
const char kAnswer[] = R"({"role": "assistant", "content": "Hello"})";

std::string Line(const std::vector<std::string>& messages) {
  std::string line = "{\"messages\": [";
  for (const std::string& message : messages) line += (line.back() == '[' ? "" : ", ") + message;
  return line + "]}";
}

std::string Message(const std::string& line) {
  const auto conversation = ParseConversation(line);
  EXPECT_TRUE(absl::IsInvalidArgument(conversation.status())) << line;
  return std::string(conversation.status().message());
}

TEST(ConversationTest, Messages) {
  const auto conversation = ParseConversation(
      R"({"id": 3, "messages": [{"content": "Sp\u00e9ak.\n", "role": "system", "name": null},)"
      R"( {"role": "user", "content": ""}, {"role": "assistant", "content": " a "}], "tools": null})");
  ASSERT_TRUE(conversation.ok()) << conversation.status();
  EXPECT_EQ(conversation->form, Form::kMessages);
  ASSERT_EQ(conversation->messages.size(), 3);
  EXPECT_EQ(conversation->messages[0].role, ChatRole::kSystem);
  EXPECT_EQ(conversation->messages[0].content, "Spéak.\n");
  EXPECT_EQ(conversation->messages[0].column, 24);
  EXPECT_EQ(conversation->messages[1].role, ChatRole::kUser);
  EXPECT_EQ(conversation->messages[1].content, "");
  EXPECT_EQ(conversation->messages[2].role, ChatRole::kAssistant);
  EXPECT_EQ(conversation->messages[2].content, " a ");
}

TEST(ConversationTest, PromptAndCompletion) {
  const auto texts = ParseConversation(R"({"completion": " 2", "prompt": "1 + 1 ="})");
  ASSERT_TRUE(texts.ok()) << texts.status();
  EXPECT_EQ(texts->form, Form::kTexts);
  EXPECT_EQ(texts->prompt, "1 + 1 =");
  EXPECT_EQ(texts->completion, " 2");
  const auto lists = ParseConversation(std::string("{\"prompt\": [") + kUser + ", " + kAnswer +
                                       "," + kUser + "], \"completion\": [" + kAnswer + "]}");
  ASSERT_TRUE(lists.ok()) << lists.status();
  EXPECT_EQ(lists->form, Form::kPromptAndCompletion);
  EXPECT_EQ(lists->num_prompt_messages, 3);
  EXPECT_EQ(lists->messages.size(), 4);
}

TEST(ConversationTest, WhatIsNoConversation) {
  struct Case {
    std::string line, message;
  };
  const std::string user = kUser, answer = kAnswer;
  for (
      const Case& bad : std::vector<Case>{
          {"[]", "column 1: the line is not a JSON object"},
          {"{}",
           "column 1: the line must have \"messages\", or else \"prompt\" and \"completion\"; it "
           "has no member"},
          {R"({"text": "a", "id": 1})", "column 1: the line must have"},
          {R"({"prompt": "a"})", "column 1: the line must have"},
          {R"({"prompt": "a", "completion": "b", "messages": []})", "column 1: the line must have"},
          {R"({"messages": "a"})", "column 14: \"messages\" is a string, not an array"},
          {R"({"messages": []})", "column 14: \"messages\" holds no message"},
          {R"({"messages": ["a"]})",
           "column 15: message 1 of \"messages\" is a string, not an object"},
          {R"({"messages": [{"content": "a"}]})",
           "column 15: message 1 of \"messages\" has no member \"role\""},
          {R"({"messages": [{"role": "user"}]})",
           "column 15: message 1 of \"messages\" has no member \"content\""},
          {R"({"messages": [{"role": "user", "content": ["a"]}]})",
           "column 43: \"content\" of message 1 of \"messages\" is an array, not a string"},
          {R"({"messages": [{"role": "user", "role": "user", "content": "a"}]})",
           "column 40: member \"role\" is there twice"},
          {R"({"messages": [{"role": "user", "content": "a", "weight": 0}]})",
           "column 58: \"weight\" of message 1 of \"messages\" would be lost"},
          {R"({"messages": [{"role": "tool", "content": "a"}]})",
           "column 24: message 1 of \"messages\" has the role \"tool\"; known are system, user and "
           "assistant"},
          {Line({answer, user}), "column 58: the conversation ends with a message of the user"},
          {Line({user, R"({"role": "assistant", "content": ""})"}),
           "column 83: message 2 of \"messages\" is an empty answer"},
          {Line({user, R"({"role": "assistant", "content": " \n\u00a0"})"}),
           "column 83: message 2 of \"messages\" is an empty answer"},
          {R"({"prompt": "a", "completion": " "})", "column 31: \"completion\" is empty"},
          {R"({"prompt": "a", "completion": []})",
           "column 31: \"prompt\" is a string and \"completion\" an array; they must be two "
           "strings"},
          {"{\"prompt\": [" + answer + "], \"completion\": [" + answer + "]}",
           "column 13: \"prompt\" ends with a message of the assistant; it must end with the "
           "user's"},
          {"{\"prompt\": [" + user + "], \"completion\": [" + user + "]}",
           "column 64: \"completion\" begins with a message of the user; it must begin with an "
           "answer"},
          {"{\"prompt\": [" + user + "], \"completion\": [" + answer + ", " + user + "]}",
           "column 107: the conversation ends with a message of the user"},
          {R"({"messages": [], "tools": []})", "column 27: \"tools\" are not supported"},
          {R"({"messages": [], "messages": []})", "column 30: member \"messages\" is there twice"},
          {R"({"messages": [}]})", "column 15: this is no value"},
      }) {
    EXPECT_THAT(Message(bad.line), StartsWith(bad.message)) << bad.line;
  }
}

std::vector<std::string> ReadAll(const std::string& bytes, absl::Status* status) {
  std::vector<std::string> answers;
  const auto reader = ConversationReader::OfBytes("chats.jsonl", bytes);
  *status = reader.status();
  Conversation conversation;
  while (status->ok()) {
    const auto more = (*reader)->Next(&conversation);
    *status = more.status();
    if (!more.ok() || !*more) break;
    answers.push_back((*reader)->place() + ": " + conversation.messages.back().content);
  }
  return answers;
}

TEST(ConversationReaderTest, ReadsLines) {
  absl::Status status;
  const std::string lines = Line({kUser, kAnswer}) + "\n \n" +
                            Line({kUser, R"({"role": "assistant", "content": "last"})"});
  const std::vector<std::string> expected = {"chats.jsonl: line 1: Hello",
                                             "chats.jsonl: line 3: last"};
  EXPECT_EQ(ReadAll(lines, &status), expected);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(ReadAll(testing::Gzip(lines + "\n"), &status), expected);
  EXPECT_TRUE(status.ok()) << status;
}

TEST(ConversationReaderTest, NamesFileLineAndColumn) {
  absl::Status status;
  EXPECT_EQ(ReadAll(Line({kUser, kAnswer}) + "\n\n{\"messages\": 1}\n", &status).size(), 1);
  EXPECT_EQ(status.message(),
            "chats.jsonl: line 3, column 14: \"messages\" is a number, not an array");
  ReadAll("\n", &status);
  EXPECT_EQ(status.message(), "chats.jsonl: holds no conversation");
  testing::TempDirectory directory;
  EXPECT_THAT(std::string(ConversationReader::Open(directory / "none").status().message()),
              HasSubstr(directory / "none"));
}

TEST(ConversationReaderTest, BadLinesAreCounted) {
  const std::string good = Line({kUser, kAnswer}), bad = Line({kUser});
  const std::string lines = absl::StrCat("{}\n", good, "\n", bad, "\n", good, "\n");
  const auto reader = ConversationReader::OfBytes("chats.jsonl", lines, {.skip_bad_lines = true});
  ASSERT_TRUE(reader.ok()) << reader.status();
  Conversation conversation;
  for (const size_t offset : {size_t{3}, 3 + good.size() + 1 + bad.size() + 1}) {
    EXPECT_TRUE((*reader)->Next(&conversation).value());
    EXPECT_EQ((*reader)->offset(), offset);
  }
  EXPECT_TRUE((*reader)->Refuse(absl::InvalidArgumentError("column 3: is odd")).ok());
  EXPECT_FALSE((*reader)->Next(&conversation).value());
  EXPECT_EQ((*reader)->num_bad_lines(), 3);
  EXPECT_THAT((*reader)->first_bad_line(),
              StartsWith("chats.jsonl: line 1, column 1: the line must have"));
  EXPECT_EQ((*reader)->num_empty_documents(), 0);
}

TEST(ConversationReaderTest, WhatIsRefusedIsABadLine) {
  const std::string lines = Line({kUser, kAnswer});
  const auto reader =
      ConversationReader::OfBytes("chats.jsonl", lines, {.name_of_skip_bad_lines = "--skip"});
  ASSERT_TRUE(reader.ok()) << reader.status();
  Conversation conversation;
  EXPECT_TRUE((*reader)->Next(&conversation).value());
  EXPECT_EQ((*reader)->Refuse(absl::InvalidArgumentError("is odd")).message(),
            "chats.jsonl: line 1: is odd; to leave out what is no document, give --skip");
}

TEST(ConversationReaderTest, AFileWithoutLinesMayBeLeftOut) {
  const auto reader = ConversationReader::OfBytes("chats.jsonl", "\n", {.skip_bad_lines = true});
  ASSERT_TRUE(reader.ok()) << reader.status();
  Conversation conversation;
  EXPECT_FALSE((*reader)->Next(&conversation).value());
  EXPECT_FALSE((*reader)->Next(&conversation).value());
  EXPECT_EQ((*reader)->num_empty_documents(), 1);
}

// Python 3.11: {c for c in map(chr, range(0x110000)) if c.isspace()}.
TEST(WhiteSpaceTest, IsPythons) {
  const std::string spaces =
      "\t\n\v\f\r\x1c\x1d\x1e\x1f \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
      "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000";
  EXPECT_EQ(StripWhiteSpace(spaces), "");
  EXPECT_EQ(StripWhiteSpace(spaces + "a" + spaces + "b" + spaces), "a" + spaces + "b");
  for (const std::string other : {"\x1b", "\u0086", "\u180e", "\u200b", "\u2060", "\ufeff"}) {
    EXPECT_EQ(StripWhiteSpace(" " + other + " "), other);
  }
}

}  // namespace
}  // namespace strake
