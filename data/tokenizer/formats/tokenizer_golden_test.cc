// Tokenizers of every format against their own libraries: make_tokenizer_goldens.py made both.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/json.h"
#include "core/testing/temp_directory.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/word_cache.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::json;

const std::string kTestData = "data/tokenizer/formats/testdata/";

json ReadTestJson(const std::string& path) {
  const auto value = ParseJson(testing::ReadFile(kTestData + path), path);
  EXPECT_TRUE(value.ok()) << value.status();
  return value.ok() ? *value : json();
}

std::unique_ptr<const Tokenizer> Open(const std::string& name) {
  TokenizerOptions options;
  if (name == "tiktoken") options.pattern = testing::ReadFile(kTestData + "tiktoken/pattern.txt");
  auto tokenizer = OpenTokenizer(kTestData + name, options);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

std::vector<int32_t> Encode(const Tokenizer& tokenizer, const std::string& text) {
  WordCache cache;
  std::vector<int32_t> tokens;
  tokenizer.Encode(text, &cache, &tokens);
  return tokens;
}

class TokenizerGoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(TokenizerGoldenTest, TokensAreTheLibrarys) {
  const auto tokenizer = Open(GetParam());
  ASSERT_NE(tokenizer, nullptr);
  const json texts = ReadTestJson("texts.json");
  const json golden = ReadTestJson(GetParam() + "/golden.json");
  ASSERT_EQ(texts.size(), golden["ids"].size());
  int num_compared = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (golden["ids"][i].is_null()) continue;
    const auto text = texts[i].get<std::string>();
    const auto ids = golden["ids"][i].get<std::vector<int32_t>>();
    EXPECT_EQ(Encode(*tokenizer, text), ids) << QuoteJson(texts[i]);
    const json& decoded = golden["decoded"][i];
    EXPECT_EQ(tokenizer->Decode(ids, /*skip_special=*/false),
              decoded.is_null() ? text : decoded.get<std::string>());
    ++num_compared;
  }
  EXPECT_GE(num_compared, 40);
}

TEST_P(TokenizerGoldenTest, BytesThatAreNoCharactersAreTheLibrarys) {
  const json golden = ReadTestJson(GetParam() + "/golden.json");
  if (!golden.contains("bytes")) GTEST_SKIP() << "the library takes characters alone";
  const auto tokenizer = Open(GetParam());
  ASSERT_NE(tokenizer, nullptr);
  for (size_t i = 0; i < golden["bytes"].size(); ++i) {
    const std::string text = absl::HexStringToBytes(golden["bytes"][i].get<std::string>());
    const auto ids = golden["byte_ids"][i].get<std::vector<int32_t>>();
    EXPECT_EQ(Encode(*tokenizer, text), ids) << golden["bytes"][i];
    EXPECT_EQ(tokenizer->Decode(ids, /*skip_special=*/false), text);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, TokenizerGoldenTest,
                         ::testing::Values("deepseek", "gemma", "gpt2", "llama2", "llama3",
                                           "metaspace", "oniguruma", "prefix_space", "qwen",
                                           "sentencepiece", "sentencepiece_rules", "smollm",
                                           "tekken_v11", "tekken_v3", "tiktoken", "vocab_merges",
                                           "words"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace strake
