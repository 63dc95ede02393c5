#include "tools/generating/end_tokens.h"

#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::unique_ptr<const Tokenizer> TokenizerOfThree(std::optional<int32_t> end_of_text) {
  TokenizerSpec spec;
  spec.tokens = {"a", "b", "c"};
  spec.end_of_text = end_of_text;
  auto tokenizer = Tokenizer::Create(std::move(spec));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

class EndTokensTest : public ::testing::Test {
 protected:
  void Write(const char* name, const std::string& text) const {
    testing::WriteFile(directory_ / name, text);
  }
  std::vector<int32_t> Read(const Tokenizer* tokenizer = nullptr) const {
    const auto tokens = ReadEndTokens(directory_.path(), tokenizer, /*vocab_size=*/10);
    EXPECT_TRUE(tokens.ok()) << tokens.status();
    return tokens.value_or(std::vector<int32_t>{-1});
  }
  const testing::TempDirectory directory_;
};

TEST_F(EndTokensTest, TheFirstFileThatNamesSomeCounts) {
  EXPECT_THAT(Read(), IsEmpty());
  const auto tokenizer = TokenizerOfThree(2);
  EXPECT_THAT(Read(tokenizer.get()), ElementsAre(2));
  EXPECT_THAT(Read(TokenizerOfThree(std::nullopt).get()), IsEmpty());
  Write("config.json", R"({"eos_token_id": 3})");
  EXPECT_THAT(Read(tokenizer.get()), ElementsAre(3));
  Write("generation_config.json", R"({"eos_token_id": null, "temperature": 0.6})");
  EXPECT_THAT(Read(), ElementsAre(3));
  Write("generation_config.json", R"({"eos_token_id": [4, 5, 99, -1]})");
  EXPECT_THAT(Read(), ElementsAre(4, 5));
}

TEST_F(EndTokensTest, BadValuesAreNamed) {
  for (const char* value : {R"("</s>")", "1.5", "[1, []]", "{}"}) {
    Write("generation_config.json", absl::StrCat("{\"eos_token_id\": ", value, "}"));
    const auto tokens = ReadEndTokens(directory_.path(), nullptr, 10);
    EXPECT_EQ(tokens.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(tokens.status().message()),
                AllOf(HasSubstr("generation_config.json: eos_token_id is "), HasSubstr("a list")));
  }
}

}  // namespace
}  // namespace strake
