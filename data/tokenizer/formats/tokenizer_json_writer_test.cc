#include "data/tokenizer/formats/tokenizer_json_writer.h"

#include <string>

#include "core/base/json.h"
#include "core/testing/temp_directory.h"
#include "data/tokenizer/formats/byte_letters.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/training/bpe_trainer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using ::testing::HasSubstr;

nlohmann::json Parse(const std::string& text) { return ParseJson(text, "tokenizer.json").value(); }

TokenizerSpec SmallSpec() {
  TokenizerSpec spec;
  spec.tokens = {"<s>", "a", " ", "\n", "", " a", "\xC3", "a\n", "</s> x"};
  spec.merges = {{1, 3, 7, 9}, {2, 1, 5, 4}};
  spec.added = {{.id = 8, .text = "</s> x", .rstrip = true},
                {.id = 0, .text = "<s>", .special = true}};
  spec.prefix = {0};
  spec.begin_of_text = 0;
  spec.end_of_text = 8;
  return spec;
}

TEST(ByteLettersTest, AreGpt2s) {
  EXPECT_EQ(ByteLetters(absl::string_view("\0 \n!~\x7F\xA0\xA1\xAD\xFF", 10)),
            "\u0100\u0120\u010A!~\u0121\u0142\u00A1\u0143\u00FF");
  EXPECT_EQ(BytesByLetter()[0], '!');
  EXPECT_EQ(BytesByLetter()[187], 0xFF);
  EXPECT_EQ(BytesByLetter()[188], 0);
  EXPECT_EQ(BytesByLetter()[255], 0xAD);
}

TEST(TokenizerJsonWriterTest, TokensAreLettersAndMergesAreInOrder) {
  const auto json = Parse(*TokenizerJson(SmallSpec()));
  const auto& model = json["model"];
  EXPECT_EQ(model["vocab"], Parse(R"({"<s>": 0, "a": 1, "\u0120": 2, "\u010A": 3, "\u0120a": 5,
                                      "\u00C3": 6, "a\u010A": 7, "</s> x": 8})"));
  EXPECT_EQ(model["merges"], Parse(R"(["\u0120 a", "a \u010A"])"));
  EXPECT_EQ(model["ignore_merges"], false);
}

TEST(TokenizerJsonWriterTest, AddedTokensKeepTheirFlags) {
  const auto json = Parse(*TokenizerJson(SmallSpec()));
  ASSERT_EQ(json["added_tokens"].size(), 2);
  EXPECT_EQ(json["added_tokens"][0], Parse(R"({"id": 0, "content": "<s>", "single_word": false,
      "lstrip": false, "rstrip": false, "normalized": false, "special": true})"));
  EXPECT_EQ(json["added_tokens"][1]["rstrip"], true);
  EXPECT_EQ(json["post_processor"]["single"],
            Parse(R"([{"SpecialToken": {"id": "<s>", "type_id": 0}},
                      {"Sequence": {"id": "A", "type_id": 0}}])"));
  EXPECT_EQ(json["post_processor"]["special_tokens"],
            Parse(R"({"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}})"));
  const auto config = Parse(TokenizerConfigJson(SmallSpec()));
  EXPECT_EQ(config["bos_token"], "<s>");
  EXPECT_EQ(config["eos_token"], "</s> x");
}

TEST(TokenizerJsonWriterTest, ComponentsStandInOrder) {
  TokenizerSpec spec = SmallSpec();
  spec.normalizers = {{.kind = Normalizer::Kind::kNfc},
                      {.kind = Normalizer::Kind::kReplace, .pattern = "a", .content = "b"}};
  spec.pre_tokenizers = {{.kind = PreTokenizer::Kind::kDigits, .individual = true},
                         {.kind = PreTokenizer::Kind::kSplit, .pattern = "\\w+"}};
  const auto json = Parse(*TokenizerJson(spec));
  EXPECT_EQ(json["normalizer"], Parse(R"({"type": "Sequence", "normalizers": [
      {"type": "NFC"}, {"type": "Replace", "pattern": {"String": "a"}, "content": "b"}]})"));
  EXPECT_EQ(json["pre_tokenizer"], Parse(R"({"type": "Sequence", "pretokenizers": [
      {"type": "Digits", "individual_digits": true},
      {"type": "Split", "pattern": {"Regex": "\\w+"}, "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
       "use_regex": false}]})"));
}

TEST(TokenizerJsonWriterTest, RefusesWhatHasNoForm) {
  TokenizerSpec spec = SmallSpec();
  spec.normalizers = {{.kind = Normalizer::Kind::kCharsMap}};
  EXPECT_THAT(std::string(TokenizerJson(spec).status().message()), HasSubstr("map of characters"));
  spec = SmallSpec();
  spec.pre_tokenizers = {{.kind = PreTokenizer::Kind::kSplit, .pattern = "\\p{N}{1,3}+|x"}};
  EXPECT_THAT(std::string(TokenizerJson(spec).status().message()),
              HasSubstr("\"\\p{N}{1,3}+|x\" would mean something else"));
  spec = SmallSpec();
  spec.byte_level = false;
  EXPECT_THAT(std::string(TokenizerFiles(spec).status().message()), HasSubstr("not byte-level"));
  spec = SmallSpec();
  spec.decoders = {{.kind = DecodingStep::Kind::kFuse}};
  EXPECT_THAT(std::string(TokenizerJson(spec).status().message()), HasSubstr("decoder"));
}

TEST(TokenizerJsonWriterTest, ReadersOpenTheSameTokenizer) {
  BpeTrainerOptions options = {.vocab_size = 300, .special_tokens = {"<|end of text|>", "<é>"}};
  TokenizerSpec spec =
      TrainBpe({{" low", 5}, {" lower", 2}, {"\n\t\xC3\xA9\xFF", 6}}, options).value();
  spec.pre_tokenizers = {{.kind = PreTokenizer::Kind::kSplit, .pattern = " ?[a-z]+"},
                         {.kind = PreTokenizer::Kind::kByteLevel}};
  spec.end_of_text = 1;
  spec.whole_words = true;
  const testing::TempDirectory directory;
  const auto files = TokenizerFiles(spec).value();
  for (const auto& [name, text] : files) testing::WriteFile(directory / name, text);

  const auto read = ReadTokenizerSpec(directory.path(), {});
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->tokens, spec.tokens);
  ASSERT_EQ(read->merges.size(), spec.merges.size());
  EXPECT_EQ(read->merges.back().result, spec.merges.back().result);
  ASSERT_EQ(read->added.size(), 2);
  EXPECT_EQ(read->added[0].text, "<|end of text|>");
  EXPECT_EQ(read->end_of_text, 1);
  EXPECT_EQ(Tokenizer::Create(*read).value()->Hash(), Tokenizer::Create(spec).value()->Hash());
  EXPECT_EQ(TokenizerFiles(*read).value(), files);
}

TEST(TokenizerJsonWriterTest, BytesAreTheirOwnTokens) {
  const auto files = ByteTokenizerFiles();
  const auto json = Parse(files.at("tokenizer.json"));
  ASSERT_EQ(json["model"]["vocab"].size(), 256);
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(json["model"]["vocab"][ByteLetters(std::string(1, static_cast<char>(byte)))], byte);
  }
  EXPECT_TRUE(json["model"]["merges"].empty());
  EXPECT_EQ(json["pre_tokenizer"]["use_regex"], false);
  EXPECT_EQ(Parse(files.at("tokenizer_config.json"))["tokenizer_class"], "PreTrainedTokenizerFast");
}

}  // namespace
}  // namespace strake
