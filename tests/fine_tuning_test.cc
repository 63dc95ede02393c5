// Fine-tuning examples as TRL's SFTTrainer has them (goldens/make_fine_tuning_goldens.py): the same
// tokens, and the same of them are learnt.
#include <cstdint>
#include <string>
#include <vector>

#include "core/testing/temp_directory.h"
#include "data/chat/chat_files.h"
#include "data/document_index.h"
#include "data/target_ranges.h"
#include "data/text/prepare.h"
#include "data/token_file.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

constexpr char kFolder[] = "tests/goldens/fine_tuning/";

TEST(FineTuningTest, TokensAndAnswersAreThoseOfTrl) {
  const std::string folder = kFolder;
  const auto golden = nlohmann::json::parse(testing::ReadFile(folder + "golden.json"));
  const auto tokenizer = OpenTokenizer(folder, {});
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::vector<std::string> files = {folder + "examples.jsonl"};
  const auto chat = OpenChatFiles({.files = files, .format = "chatml"}, tokenizer->get());
  ASSERT_TRUE(chat.ok() && chat->has_value()) << chat.status();
  const testing::TempDirectory directory;
  PrepareOptions options;
  options.files = files;
  options.chat = &**chat;
  options.directory = directory / "tokens";
  const auto prepared = PrepareTokens(**tokenizer, options);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  EXPECT_EQ(prepared->num_documents, 20);
  EXPECT_EQ(prepared->num_answer_tokens, golden["targets"].get<int64_t>());

  std::vector<int32_t> expected;
  std::vector<bool> learnt;
  std::vector<int64_t> begins;
  for (const auto& example : golden["examples"]) {
    begins.push_back(static_cast<int64_t>(expected.size()));
    for (const auto& id : example["ids"]) expected.push_back(id.get<int32_t>());
    for (const auto& value : example["learnt"]) learnt.push_back(value.get<int>() == 1);
  }
  ASSERT_EQ(prepared->token_files.size(), 1);
  const std::string path = prepared->token_files[0];
  const auto file = TokenFile::Open(path, (*tokenizer)->vocab_size());
  ASSERT_TRUE(file.ok()) << file.status();
  std::vector<int32_t> tokens(file->num_tokens());
  file->ReadUnchecked(0, file->num_tokens(), tokens.data());
  EXPECT_EQ(tokens, expected);
  const auto targets = ReadTargetRanges(path, file->num_tokens());
  ASSERT_TRUE(targets.ok() && targets->has_value()) << targets.status();
  std::vector<bool> is_target(tokens.size(), false);
  for (const TokenRange& range : (*targets)->ranges) {
    for (int64_t i = range.begin; i < range.end; ++i) is_target[i] = true;
  }
  EXPECT_EQ(is_target, learnt);
  const auto index = ReadDocumentIndex(path, file->num_tokens());
  ASSERT_TRUE(index.ok() && index->has_value()) << index.status();
  ASSERT_EQ((*index)->documents.size(), begins.size());
  for (size_t i = 0; i < begins.size(); ++i) EXPECT_EQ((*index)->documents[i].begin, begins[i]);
}

}  // namespace
}  // namespace strake
