#include "data/chat/chat_format.h"

#include <set>
#include <string>
#include <vector>

#include "core/testing/temp_directory.h"
#include "data/chat/chat_renderer.h"
#include "data/chat/chat_template.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::TempDirectory;
using testing::WriteFile;

const ChatFormat* Format(absl::string_view name) { return FindChatFormat(name).value(); }

std::string Failure(absl::string_view format, const std::vector<ChatMessage>& messages) {
  const auto renderer = ChatRenderer::Create(Format(format), {"<s>", "</s>", "1 Jan 2026"});
  EXPECT_TRUE(renderer.ok()) << renderer.status();
  const auto chat = renderer->Render(messages, /*add_generation_prompt=*/false);
  EXPECT_TRUE(absl::IsInvalidArgument(chat.status()));
  return std::string(chat.status().message());
}

TEST(ChatFormatTest, NamesAreDistinct) {
  std::set<absl::string_view> names;
  for (const ChatFormat& format : ChatFormats()) {
    EXPECT_TRUE(names.insert(format.name).second) << format.name;
    EXPECT_EQ(Format(format.name), &format);
  }
  EXPECT_THAT(
      std::string(FindChatFormat("chat\nml").status().message()),
      AllOf(HasSubstr("there is no chat format \"chat ml\""), HasSubstr("chatml, qwen2, ")));
}

TEST(ChatRendererTest, AnswersAreSpans) {
  const auto renderer = ChatRenderer::Create(Format("zephyr"), {{}, "</s>"});
  ASSERT_TRUE(renderer.ok()) << renderer.status();
  const std::vector<ChatMessage> messages = {
      {ChatRole::kUser, "a"}, {ChatRole::kAssistant, "b"}, {ChatRole::kAssistant, "{eos}"}};
  const auto chat = renderer->Render(messages, /*add_generation_prompt=*/true);
  ASSERT_TRUE(chat.ok()) << chat.status();
  ASSERT_EQ(chat->answers.size(), 2);
  EXPECT_EQ(chat->text,
            "<|user|>\na</s>\n<|assistant|>\nb</s>\n<|assistant|>\n{eos}</s>\n<|assistant|>\n");
  const auto text = [&](int i) {
    return chat->text.substr(chat->answers[i].begin, chat->answers[i].end - chat->answers[i].begin);
  };
  EXPECT_EQ(text(0), "b</s>");
  EXPECT_EQ(text(1), "{eos}</s>");
}

TEST(ChatRendererTest, NeedsTokensAndDate) {
  const auto message = [](absl::string_view format, const ChatValues& values) {
    return std::string(ChatRenderer::Create(Format(format), values).status().message());
  };
  EXPECT_THAT(message("gemma", {}),
              HasSubstr("the chat format gemma writes the token that begins"));
  EXPECT_THAT(message("zephyr", {}),
              HasSubstr("the chat format zephyr writes the token that ends"));
  EXPECT_THAT(message("llama3.2", {"<s>"}), HasSubstr("the chat format llama3.2 writes the date"));
  EXPECT_EQ(message("llama3.1", {"<s>"}), "");
  EXPECT_EQ(message("chatml", {}), "");
}

TEST(ChatRendererTest, RolesThatTheFormatDoesNotWrite) {
  const ChatMessage system = {ChatRole::kSystem, "s", 7}, user = {ChatRole::kUser, "u"},
                    answer = {ChatRole::kAssistant, "a", 30};
  EXPECT_EQ(
      Failure("gemma", {system, user, answer}),
      "column 7: message 1, of the system: the chat format gemma has no role system: write its "
      "text into the user's first message");
  EXPECT_EQ(Failure("llama2", {user, system, answer}),
            "column 7: message 2, of the system: the chat format llama2 has the system speak first "
            "alone: write its text into the first message");
  EXPECT_EQ(Failure("gemma", {user, user}),
            "message 2, of the user: the chat format gemma has user and assistant take turns, and "
            "here the assistant's message is due");
  EXPECT_EQ(Failure("mistral-v1", {system, answer}),
            "column 30: message 2, of the assistant: the chat format mistral-v1 has user and "
            "assistant take turns, and here the user's message is due");
  EXPECT_EQ(
      Failure("llama2", {system}),
      "column 7: message 1, of the system: the chat format llama2 writes it into a message of "
      "the user, and there is none");
  EXPECT_EQ(Failure("chatml", {}), "a conversation without a message");
}

TEST(ChatTemplateTest, HashIsWithoutTheLineEndAtTheEnd) {
  EXPECT_EQ(ChatTemplateHash("a"),
            "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb");
  EXPECT_EQ(ChatTemplateHash("a\n"), ChatTemplateHash("a"));
  EXPECT_NE(ChatTemplateHash("a\n\n"), ChatTemplateHash("a"));
  EXPECT_EQ(FormatOfChatTemplate(ChatTemplateHash("a")), nullptr);
}

TEST(ChatTemplateTest, ReadsAModelsFolder) {
  TempDirectory folder;
  const auto text = [&] {
    const auto result = ReadChatTemplate(folder.path());
    return result.ok() ? result->value_or("NONE") : std::string(result.status().message());
  };
  EXPECT_EQ(text(), "NONE");
  EXPECT_THAT(std::string(ChatFormatOfModel(folder.path()).status().message()),
              AllOf(HasSubstr(folder.path() + ": there is no chat template"),
                    HasSubstr("choose a chat format of chatml, ")));
  const std::string config = folder / "tokenizer_config.json";
  WriteFile(config, R"({"eos_token": "</s>"})");
  EXPECT_EQ(text(), "NONE");
  WriteFile(config, R"({"chat_template": "a\nb"})");
  EXPECT_EQ(text(), "a\nb");
  const auto unknown = ChatFormatOfModel(folder.path());
  EXPECT_TRUE(absl::IsNotFound(unknown.status()));
  EXPECT_THAT(
      std::string(unknown.status().message()),
      AllOf(HasSubstr("its chat template is not known (SHA-256 " + ChatTemplateHash("a\nb")),
            HasSubstr("choose a chat format of chatml, ")));
  WriteFile(config, R"({"chat_template": [{"name": "tool_use", "template": "t"},
                                          {"name": "default", "template": "d"}]})");
  EXPECT_EQ(text(), "d");
  WriteFile(config, R"({"chat_template": [{"name": "tool_use", "template": "t"}]})");
  EXPECT_EQ(text(), "NONE");
  for (const std::string bad : {"1", "[\"a\"]", "[{\"name\": \"default\"}]"}) {
    WriteFile(config, "{\"chat_template\": " + bad + "}");
    EXPECT_THAT(text(), AllOf(HasSubstr(config), HasSubstr("which is neither a text nor a list")));
  }
  WriteFile(config, "[");
  EXPECT_THAT(text(), HasSubstr(config));
  WriteFile(folder / "chat_template.jinja", "own file\n");
  EXPECT_EQ(text(), "own file\n");
}

}  // namespace
}  // namespace strake
