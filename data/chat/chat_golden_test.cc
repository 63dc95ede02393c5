// Conversations by every format against transformers and TRL: testdata/make_chat_goldens.py.
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/json.h"
#include "core/testing/temp_directory.h"
#include "data/chat/chat_encoder.h"
#include "data/chat/chat_format.h"
#include "data/chat/chat_renderer.h"
#include "data/chat/chat_template.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class ChatGoldenTest : public ::testing::Test {
 protected:
  ChatGoldenTest() {
    const std::string path = "data/chat/testdata/golden.json";
    auto golden = ParseJson(testing::ReadFile(path), path);
    EXPECT_TRUE(golden.ok()) << golden.status();
    golden_ = *std::move(golden);
    for (const auto& item : golden_["tokenizers"].items()) {
      tokenizers_[item.key()] = MakeTokenizer(item.value());
    }
  }

  static std::unique_ptr<const Tokenizer> MakeTokenizer(const json& value) {
    auto spec = ReadTokenizerSpec(
        "data/tokenizer/formats/testdata/" + value["base"].get<std::string>(), {});
    EXPECT_TRUE(spec.ok()) << spec.status();
    std::map<std::string, int32_t> ids;
    for (const json& token : value["added"]) {
      const auto text = token["text"].get<std::string>();
      ids[text] = token["id"];
      spec->added.push_back(
          {.id = token["id"], .text = text, .special = true, .rstrip = token["rstrip"]});
    }
    if (value["bos"].is_string()) spec->begin_of_text = ids.at(value["bos"]);
    spec->end_of_text = ids.at(value["eos"]);
    auto tokenizer = Tokenizer::Create(*std::move(spec));
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return *std::move(tokenizer);
  }

  std::vector<ChatMessage> Messages(int conversation) const {
    std::vector<ChatMessage> messages;
    for (const json& message : golden_["conversations"][conversation]) {
      const auto role = message["role"].get<std::string>();
      messages.push_back({role == "system" ? ChatRole::kSystem
                          : role == "user" ? ChatRole::kUser
                                           : ChatRole::kAssistant,
                          message["content"].get<std::string>()});
    }
    return messages;
  }

  const Tokenizer& TokenizerOf(const json& row) const { return *tokenizers_.at(row["tokenizer"]); }

  ChatRenderer Renderer(const json& row) const {
    const json& tokenizer = golden_["tokenizers"][row["tokenizer"].get<std::string>()];
    ChatValues values = {{}, tokenizer["eos"].get<std::string>(), row["date"].get<std::string>()};
    if (tokenizer["bos"].is_string()) values.begin_of_text = tokenizer["bos"].get<std::string>();
    return ChatRenderer::Create(FindChatFormat(row["format"].get<std::string>()).value(), values)
        .value();
  }

  json golden_;
  std::map<std::string, std::unique_ptr<const Tokenizer>> tokenizers_;
  WordCache cache_;
};

// What a template leaves out without a word is an error here.
bool LeavesOutSystem(const ChatFormat& format, const std::vector<ChatMessage>& messages) {
  if (format.system_place == SystemPlace::kTurn) return false;
  for (size_t i = format.system_place == SystemPlace::kNowhere ? 0 : 1; i < messages.size(); ++i) {
    if (messages[i].role == ChatRole::kSystem) return true;
  }
  return messages.size() == 1 && messages[0].role == ChatRole::kSystem;
}

TEST_F(ChatGoldenTest, PublishedTemplatesAreRecognized) {
  std::set<std::string> found;
  for (const json& row : golden_["formats"]) {
    const ChatFormat* const format = FormatOfChatTemplate(row["sha256"].get<std::string>());
    ASSERT_NE(format, nullptr) << row["format"];
    EXPECT_EQ(std::string(format->name), row["format"].get<std::string>());
    found.insert(std::string(format->name));
  }
  EXPECT_EQ(found.size(), ChatFormats().size());
}

TEST_F(ChatGoldenTest, TextsAreThoseOfTransformers) {
  int num_texts = 0, num_errors = 0;
  for (const json& row : golden_["formats"]) {
    const ChatRenderer renderer = Renderer(row);
    for (const json& item : row["cases"]) {
      SCOPED_TRACE(
          absl::StrCat(row["format"].get<std::string>(), " ", item["conversation"].dump()));
      const std::vector<ChatMessage> messages = Messages(item["conversation"]);
      const auto chat = renderer.Render(messages, /*add_generation_prompt=*/false);
      const auto prompt = renderer.Render(messages, /*add_generation_prompt=*/true);
      EXPECT_EQ(chat.ok(), prompt.ok());
      if (item["text"].is_null() || LeavesOutSystem(renderer.format(), messages)) {
        EXPECT_TRUE(absl::IsInvalidArgument(chat.status())) << chat.status();
        ++num_errors;
        continue;
      }
      ASSERT_TRUE(chat.ok()) << chat.status();
      std::string expected = item["prompt"].get<std::string>();
      if (expected[0] == '+') expected = item["text"].get<std::string>() + expected.substr(1);
      EXPECT_EQ(chat->text, item["text"].get<std::string>());
      EXPECT_EQ(prompt->text, expected);
      ++num_texts;
    }
  }
  EXPECT_GE(num_texts, 200);
  EXPECT_GE(num_errors, 40);
}

std::vector<std::pair<int, int>> Ranges(const std::vector<uint8_t>& mask) {
  std::vector<std::pair<int, int>> ranges;
  for (int i = 0; i < mask.size(); ++i) {
    if (mask[i] == 0) continue;
    if (!ranges.empty() && ranges.back().second == i) {
      ++ranges.back().second;
    } else {
      ranges.push_back({i, i + 1});
    }
  }
  return ranges;
}

TEST_F(ChatGoldenTest, TokensAndMasksAreThoseOfTransformersAndTrl) {
  int num_compared = 0;
  for (const json& row : golden_["formats"]) {
    const ChatFormat& format = *FindChatFormat(row["format"].get<std::string>()).value();
    const auto encoder = ChatEncoder::Create(&format, &TokenizerOf(row), row["date"]);
    ASSERT_TRUE(encoder.ok()) << encoder.status();
    for (const json& item : row["cases"]) {
      if (!item.contains("ids")) continue;
      SCOPED_TRACE(
          absl::StrCat(row["format"].get<std::string>(), " ", item["conversation"].dump()));
      Conversation conversation;
      conversation.messages = Messages(item["conversation"]);
      const bool has_system = conversation.messages[0].role == ChatRole::kSystem;
      const auto chat = encoder->Encode(conversation, &cache_);
      if (LeavesOutSystem(format, conversation.messages)) continue;
      if (has_system && format.system_place == SystemPlace::kLastUser) {
        EXPECT_THAT(std::string(chat.status().message()),
                    HasSubstr("leaves it out where an answer"));
        continue;
      }
      ASSERT_TRUE(chat.ok()) << chat.status();
      EXPECT_EQ(chat->tokens, item["ids"].get<std::vector<int32_t>>());
      EXPECT_EQ(Ranges(chat->is_answer), (item["answers"].get<std::vector<std::pair<int, int>>>()));
      EXPECT_EQ(chat->is_answer.size(), chat->tokens.size());

      conversation.form = Conversation::Form::kPromptAndCompletion;
      conversation.num_prompt_messages = conversation.messages.size() - 1;
      const auto pair = encoder->Encode(conversation, &cache_);
      ASSERT_TRUE(pair.ok()) << pair.status();
      EXPECT_EQ(pair->tokens, chat->tokens);
      const std::vector<std::pair<int, int>> completion = {{item["first"], chat->tokens.size()}};
      EXPECT_EQ(Ranges(pair->is_answer), completion);
      ++num_compared;
    }
  }
  EXPECT_GE(num_compared, 100);
}

TEST_F(ChatGoldenTest, PromptsAndCompletionsThatAreTextsAreTrls) {
  for (const json& item : golden_["texts"]) {
    const auto encoder = ChatEncoder::Create(nullptr, &TokenizerOf(item), "");
    ASSERT_TRUE(encoder.ok()) << encoder.status();
    Conversation conversation;
    conversation.form = Conversation::Form::kTexts;
    conversation.prompt = item["prompt"].get<std::string>();
    conversation.completion = item["completion"].get<std::string>();
    const auto chat = encoder->Encode(conversation, &cache_);
    ASSERT_TRUE(chat.ok()) << chat.status();
    EXPECT_EQ(chat->tokens, item["ids"].get<std::vector<int32_t>>()) << item;
    const std::vector<std::pair<int, int>> completion = {{item["first"], chat->tokens.size()}};
    EXPECT_EQ(Ranges(chat->is_answer), completion) << item;
    EXPECT_EQ(encoder->end_token(), chat->tokens.back());
  }
}

TEST_F(ChatGoldenTest, ATokenizerThatDoesNotFit) {
  const auto message = [&](absl::string_view format, const std::string& tokenizer) {
    const auto encoder =
        ChatEncoder::Create(FindChatFormat(format).value(), tokenizers_.at(tokenizer).get(), "");
    return std::string(encoder.status().message());
  };
  EXPECT_THAT(
      message("chatml", "llama3"),
      HasSubstr("has no added token \"<|im_end|>\", with which the chat format chatml closes"));
  EXPECT_THAT(message("llama2", "qwen"), HasSubstr("bos_token"));
  Conversation conversation;
  conversation.messages = Messages(0);
  const auto encoder = ChatEncoder::Create(nullptr, tokenizers_.at("qwen").get(), "");
  EXPECT_THAT(std::string(encoder->Encode(conversation, &cache_).status().message()),
              HasSubstr("messages need a chat format; choose one of chatml"));
}

}  // namespace
}  // namespace strake
