#include "data/chat/chat_files.h"

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/testing/temp_directory.h"
#include "data/text/compress.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using Form = Conversation::Form;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::WriteFile;

constexpr char kMessages[] =
    R"({"id": 1, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})";
constexpr char kTexts[] = R"({"prompt": "a", "completion": "b"})";

TEST(FormOfLineTest, NamesOfMembersTell) {
  EXPECT_EQ(FormOfLine(kMessages, "text"), Form::kMessages);
  EXPECT_EQ(FormOfLine(kTexts, "text"), Form::kTexts);
  EXPECT_EQ(FormOfLine(R"({"prompt": [], "completion": 1})", "text"), Form::kPromptAndCompletion);
  // What is wrong with them, the reader says.
  EXPECT_EQ(FormOfLine(R"({"messages": 3, "prompt": "a"})", "text"), Form::kMessages);
  for (const char* line : {R"({"prompt": "a"})", R"({"completion": "a"})", R"({"text": "a"})", "{}",
                           "[]", "{\"messages\": ", ""}) {
    EXPECT_EQ(FormOfLine(line, "text"), std::nullopt) << line;
  }
}

TEST(FormOfLineTest, TheTextFieldMakesItAText) {
  EXPECT_EQ(FormOfLine(R"({"text": "a", "messages": []})", "text"), std::nullopt);
  EXPECT_EQ(FormOfLine(R"({"text": "a", "messages": []})", "body"), Form::kMessages);
  EXPECT_EQ(FormOfLine(kTexts, "prompt"), std::nullopt);
}

class ChatFilesTest : public ::testing::Test {
 protected:
  ChatFilesTest() {
    TokenizerSpec spec = ByteTokenizerSpec();
    for (const char* text : {"<|im_start|>", "<|im_end|>", "<eos>"}) {
      spec.added.push_back(
          {.id = static_cast<int32_t>(spec.tokens.size()), .text = text, .special = true});
      spec.tokens.emplace_back(text);
    }
    spec.end_of_text = 258;
    tokenizer_ = Tokenizer::Create(spec).value();
    WriteFile(directory_ / "chats.jsonl", absl::StrCat(" \n{\"broken\": \n", kMessages, "\n"));
    WriteFile(directory_ / "pairs.ndjson.gz", testing::Gzip(absl::StrCat(kTexts, "\n", kMessages)));
    WriteFile(directory_ / "text.jsonl", "{\"text\": \"a\"}\n");
    WriteFile(directory_ / "text.txt", kMessages);
  }

  ChatFilesOptions Options(const std::vector<std::string>& names) const {
    ChatFilesOptions options;
    for (const std::string& name : names) options.files.push_back(directory_ / name);
    return options;
  }
  std::string Message(const ChatFilesOptions& options) const {
    const auto chat = OpenChatFiles(options, tokenizer_.get());
    EXPECT_TRUE(absl::IsInvalidArgument(chat.status())) << chat.status();
    return std::string(chat.status().message());
  }

  const testing::TempDirectory directory_;
  std::unique_ptr<const Tokenizer> tokenizer_;
};

TEST_F(ChatFilesTest, TheFirstObjectOfAFileTells) {
  EXPECT_EQ(FormOfFile(directory_ / "chats.jsonl", "text"), Form::kMessages);
  EXPECT_EQ(FormOfFile(directory_ / "pairs.ndjson.gz", "text"), Form::kTexts);
  for (const char* name : {"text.jsonl", "text.txt", "none.jsonl"}) {
    EXPECT_EQ(FormOfFile(directory_ / name, "text"), std::nullopt) << name;
  }
  EXPECT_EQ(FormOfFile("-", "text"), std::nullopt);
}

TEST_F(ChatFilesTest, TextsAreNoConversations) {
  const auto chat = OpenChatFiles(Options({"text.jsonl", "text.txt"}), tokenizer_.get());
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_FALSE(chat->has_value());
}

TEST_F(ChatFilesTest, BothInOneListAreAnError) {
  EXPECT_EQ(Message(Options({"text.jsonl", "pairs.ndjson.gz"})),
            absl::StrCat("files: ", directory_ / "pairs.ndjson.gz", " holds conversations, and ",
                         directory_ / "text.jsonl",
                         " holds other text: keep them apart, each with its own kind"));
}

TEST_F(ChatFilesTest, PromptsThatAreTextsNeedNoFormat) {
  const auto chat = OpenChatFiles(Options({"pairs.ndjson.gz"}), tokenizer_.get());
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ((*chat)->format(), nullptr);
  EXPECT_EQ((*chat)->Description(), "no chat format");
  EXPECT_EQ((*chat)->end_token(), 258);
}

TEST_F(ChatFilesTest, MessagesNeedOne) {
  ChatFilesOptions options = Options({"pairs.ndjson.gz", "chats.jsonl"});
  EXPECT_THAT(Message(options),
              AllOf(HasSubstr("chat_format: " + directory_ / "chats.jsonl holds messages, and "),
                    HasSubstr("no folder with a chat template is known"),
                    HasSubstr("choose a chat format of chatml, qwen2")));
  options.folder = directory_.path();
  options.name_of_format = "--chat_format";
  EXPECT_THAT(Message(options),
              AllOf(HasSubstr("--chat_format: "), HasSubstr("there is no chat template")));
  WriteFile(directory_ / "chat_template.jinja", "{{ messages }}");
  EXPECT_THAT(Message(options), HasSubstr("its chat template is not known (SHA-256 "));
  options.format = "chatty";
  EXPECT_THAT(Message(options), HasSubstr("there is no chat format \"chatty\"; there are chatml"));
  options.format = "llama3";
  EXPECT_THAT(Message(options), HasSubstr("--chat_format: the chat format llama3 writes"));
  options.format = "chatml";
  const auto chat = OpenChatFiles(options, tokenizer_.get());
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ((*chat)->format()->name, "chatml");
}

TEST_F(ChatFilesTest, WhateverTheirNamesAre) {
  ChatFilesOptions options = Options({"text.txt", "-"});
  options.all_are_chats = true;
  auto chat = OpenChatFiles(options, tokenizer_.get());
  ASSERT_TRUE(chat.ok() && chat->has_value()) << chat.status();
  EXPECT_EQ((*chat)->format(), nullptr);
}

// What a format writes is part of what sets the tokens, as the date is.
TEST_F(ChatFilesTest, DescriptionsDiffer) {
  std::set<std::string> descriptions;
  for (const char* name : {"chatml", "qwen2", "smollm2", "zephyr"}) {
    const auto chat = ChatEncoder::Create(FindChatFormat(name).value(), tokenizer_.get(), "");
    ASSERT_TRUE(chat.ok()) << chat.status();
    const std::string description = chat->Description();
    descriptions.insert(description.substr(description.size() - 16));
  }
  EXPECT_EQ(descriptions.size(), 4);
  const ChatFormat* const dated = FindChatFormat("llama3.2").value();
  std::set<uint64_t> fingerprints;
  for (const char* date : {"1", "2"}) {
    fingerprints.insert(
        ChatRenderer::Create(dated, {.begin_of_text = "<s>", .end_of_text = "</s>", .date = date})
            ->Fingerprint());
  }
  EXPECT_EQ(fingerprints.size(), 2);
}

}  // namespace
}  // namespace strake
