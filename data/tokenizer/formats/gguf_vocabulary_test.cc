#include "data/tokenizer/formats/gguf_vocabulary.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "core/base/json.h"
#include "core/testing/temp_directory.h"
#include "data/tokenizer/formats/expand_merges.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/word_cache.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kTestData = "data/tokenizer/formats/testdata/";

json ReadTestJson(const std::string& path) {
  return ParseJson(testing::ReadFile(kTestData + path), path).value();
}

TokenizerSpec SpecOf(const std::string& name) {
  return ReadTokenizerSpec(kTestData + name, {}).value();
}

int64_t SizeOf(const TokenizerSpec& spec) { return static_cast<int64_t>(spec.tokens.size()); }

// The tokenizer with the merges that SentencePiece would have of its tokens: all that there can be.
TokenizerSpec WithAllMerges(TokenizerSpec spec) {
  std::vector<int64_t> ranks(spec.tokens.size(), 0);
  for (const AddedToken& added : spec.added) ranks[added.id] = -1;
  for (const int32_t id : spec.byte_tokens) ranks[id] = -1;
  for (const Merge& merge : spec.merges) ranks[merge.result] = merge.rank + 1;
  spec.merges = ExpandMerges(spec.tokens, ranks).value();
  return spec;
}

GgufVocabulary VocabularyOf(const TokenizerSpec& spec) {
  auto vocabulary = MakeGgufVocabulary(spec, SizeOf(spec), "");
  EXPECT_TRUE(vocabulary.ok()) << vocabulary.status();
  return vocabulary.value_or(GgufVocabulary());
}

std::string ErrorOf(const TokenizerSpec& spec, const std::string& pre = "") {
  return std::string(MakeGgufVocabulary(spec, SizeOf(spec), pre).status().message());
}

TEST(GgufVocabularyTest, NamesOfWaysToCutWords) {
  const std::map<std::string, std::string> names = {
      {"gpt2", "gpt-2"},        {"llama3", "llama-bpe"},     {"qwen", "qwen2"},
      {"smollm", "smollm"},     {"deepseek", "deepseek-v3"}, {"tekken_v3", "tekken"},
      {"tekken_v11", "tekken"}, {"vocab_merges", "gpt-2"}};
  for (const auto& [tokenizer, name] : names) {
    const GgufVocabulary vocabulary = VocabularyOf(SpecOf(tokenizer));
    EXPECT_EQ(vocabulary.model, "gpt2") << tokenizer;
    EXPECT_EQ(vocabulary.pre, name) << tokenizer;
  }
  TokenizerSpec spec = SpecOf("llama3");
  spec.whole_words = false;
  EXPECT_EQ(VocabularyOf(spec).pre, "dbrx");
}

TEST(GgufVocabularyTest, ByteLevelTokensAndMergesAreThoseOfTheFile) {
  for (const std::string name : {"gpt2", "llama3", "qwen", "smollm", "deepseek"}) {
    const json file = ReadTestJson(name + "/tokenizer.json");
    const GgufVocabulary vocabulary = VocabularyOf(SpecOf(name));
    for (const auto& [token, id] : file["model"]["vocab"].items()) {
      EXPECT_EQ(vocabulary.tokens[id], token) << name;
    }
    for (const json& added : file["added_tokens"]) {
      const int id = added["id"];
      EXPECT_EQ(vocabulary.tokens[id], added["content"]) << name;
      EXPECT_EQ(vocabulary.types[id],
                added["special"] == true ? GgufTokenType::kControl : GgufTokenType::kUserDefined);
    }
    ASSERT_EQ(vocabulary.merges.size(), file["model"]["merges"].size()) << name;
    for (size_t i = 0; i < vocabulary.merges.size(); ++i) {
      const json& merge = file["model"]["merges"][i];
      EXPECT_EQ(vocabulary.merges[i],
                merge.is_string()
                    ? merge.get<std::string>()
                    : absl::StrCat(merge[0].get<std::string>(), " ", merge[1].get<std::string>()));
    }
    EXPECT_THAT(vocabulary.scores, IsEmpty());
  }
}

// A reader's algorithm for "llama": of all neighbours that make a token, the two of the highest
// score are joined first, of equal ones the leftmost.
std::vector<int32_t> EncodeByScores(const GgufVocabulary& vocabulary, const std::string& text) {
  std::map<std::string, int32_t> ids;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    ids.emplace(vocabulary.tokens[id], static_cast<int32_t>(id));
  }
  std::string blanks = absl::StrReplaceAll(text, {{" ", "\u2581"}});
  if (vocabulary.add_space_prefix && !text.empty()) blanks = "\u2581" + blanks;
  std::vector<std::string> symbols;
  for (const char c : blanks) {
    if ((c & 0xC0) != 0x80) symbols.emplace_back();
    symbols.back() += c;
  }
  while (true) {
    int best = -1;
    float best_score = 0;
    for (int i = 0; i + 1 < static_cast<int>(symbols.size()); ++i) {
      const auto made = ids.find(symbols[i] + symbols[i + 1]);
      if (made == ids.end()) continue;
      const float score = vocabulary.scores[made->second];
      if (best >= 0 && score <= best_score) continue;
      best = i;
      best_score = score;
    }
    if (best < 0) break;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + best + 1);
  }
  std::vector<int32_t> tokens;
  for (const std::string& symbol : symbols) {
    if (ids.contains(symbol)) {
      tokens.push_back(ids.at(symbol));
      continue;
    }
    for (const char byte : symbol) {
      tokens.push_back(ids.at(absl::StrFormat("<0x%02X>", static_cast<unsigned char>(byte))));
    }
  }
  return tokens;
}

TEST(GgufVocabularyTest, ScoresGiveTheTokenizersTokens) {
  for (const std::string name : {"llama2", "gemma", "sentencepiece"}) {
    const TokenizerSpec spec = name == "sentencepiece" ? SpecOf(name) : WithAllMerges(SpecOf(name));
    const GgufVocabulary vocabulary = VocabularyOf(spec);
    EXPECT_EQ(vocabulary.model, "llama") << name;
    const auto tokenizer = Tokenizer::Create(spec).value();
    int num_compared = 0;
    for (const json& text_json : ReadTestJson("texts.json")) {
      const auto text = text_json.get<std::string>();
      const bool has_added =
          std::any_of(spec.added.begin(), spec.added.end(),
                      [&](const AddedToken& added) { return absl::StrContains(text, added.text); });
      if (has_added) continue;
      WordCache cache;
      std::vector<int32_t> tokens;
      tokenizer->Encode(text, &cache, &tokens);
      EXPECT_EQ(EncodeByScores(vocabulary, text), tokens) << name << QuoteJson(text_json);
      ++num_compared;
    }
    EXPECT_GE(num_compared, 20) << name;
  }
}

TEST(GgufVocabularyTest, KindsOfSentencePieceTokens) {
  const TokenizerSpec spec = WithAllMerges(SpecOf("llama2"));
  const GgufVocabulary vocabulary = VocabularyOf(spec);
  EXPECT_EQ(vocabulary.unknown, 0);
  EXPECT_EQ(vocabulary.types[0], GgufTokenType::kUnknown);
  EXPECT_TRUE(vocabulary.add_space_prefix);
  EXPECT_FALSE(VocabularyOf(WithAllMerges(SpecOf("gemma"))).add_space_prefix);
  ASSERT_EQ(spec.byte_tokens.size(), 256);
  for (const int32_t id : spec.byte_tokens) {
    EXPECT_EQ(vocabulary.types[id], GgufTokenType::kByte);
  }
}

TokenizerSpec SmallSpec() {
  TokenizerSpec spec;
  spec.tokens = {"a", "b", "", "ab", "<s>"};
  spec.added = {{.id = 4, .text = "<s>", .special = true}};
  return spec;
}

TEST(GgufVocabularyTest, TokensThatTheModelHasMoreAreUnused) {
  const auto vocabulary = MakeGgufVocabulary(SmallSpec(), 7, "");
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_THAT(vocabulary->tokens, ElementsAre("a", "b", "[PAD2]", "ab", "<s>", "[PAD5]", "[PAD6]"));
  EXPECT_EQ(vocabulary->types[2], GgufTokenType::kUnused);
  EXPECT_EQ(vocabulary->types[4], GgufTokenType::kControl);
  EXPECT_EQ(vocabulary->types[6], GgufTokenType::kUnused);
}

TEST(GgufVocabularyTest, TokensBeforeAndAfterATextAreFlags) {
  TokenizerSpec spec = SmallSpec();
  EXPECT_FALSE(VocabularyOf(spec).add_begin_of_text);
  spec.prefix = {4};
  spec.begin_of_text = 4;
  spec.end_of_text = 1;
  EXPECT_TRUE(VocabularyOf(spec).add_begin_of_text);
  EXPECT_EQ(VocabularyOf(spec).begin_of_text, 4);
  EXPECT_EQ(VocabularyOf(spec).end_of_text, 1);
  EXPECT_FALSE(VocabularyOf(spec).add_end_of_text);
  spec.begin_of_text = 0;
  EXPECT_THAT(ErrorOf(spec), HasSubstr("token 4 before a text, where token 0 is"));
  spec.prefix = {4, 0};
  EXPECT_THAT(ErrorOf(spec), HasSubstr("2 tokens before a text"));
}

TEST(GgufVocabularyTest, MergesAreInTheOrderOfTheirRanks) {
  TokenizerSpec spec = SmallSpec();
  spec.tokens[2] = "ba";
  spec.merges = {{0, 1, 3, 9}, {1, 0, 2, 4}};
  EXPECT_THAT(ErrorOf(spec), HasSubstr("uncut text"));
  const auto vocabulary = MakeGgufVocabulary(spec, 5, "my-words");
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_THAT(vocabulary->merges, ElementsAre("b a", "a b"));
  EXPECT_EQ(vocabulary->pre, "my-words");
}

TEST(GgufVocabularyTest, WaysThatReadersKnowNearlyAreNoted) {
  EXPECT_THAT(VocabularyOf(SpecOf("tekken_v3")).notices, ElementsAre(HasSubstr("combining marks")));
  EXPECT_THAT(VocabularyOf(SpecOf("llama3")).notices, IsEmpty());
}

TEST(GgufVocabularyTest, WhatTheFormatLacksIsAnError) {
  EXPECT_THAT(ErrorOf(SpecOf("metaspace")), HasSubstr("byte fallback"));
  EXPECT_THAT(ErrorOf(SpecOf("prefix_space")), HasSubstr("blank before a text"));
  EXPECT_THAT(ErrorOf(SpecOf("words")), HasSubstr("GGUF has no form for the tokenizer's"));
  EXPECT_THAT(ErrorOf(SpecOf("llama2")), HasSubstr("merges, of which token"));
  TokenizerSpec spec = WithAllMerges(SpecOf("llama2"));
  std::vector<Merge> twice;
  for (size_t i = 0; i + 1 < spec.merges.size() && twice.empty(); ++i) {
    if (spec.merges[i].result == spec.merges[i + 1].result) twice = {spec.merges[i]};
  }
  ASSERT_FALSE(twice.empty());
  twice[0].rank = 1 << 20;
  spec.merges.push_back(twice[0]);
  EXPECT_THAT(ErrorOf(spec), HasSubstr("comes twice"));
  spec = SpecOf("qwen");
  EXPECT_THAT(VocabularyOf(spec).notices, ElementsAre(HasSubstr("NFC")));
  spec.normalizers[0].kind = Normalizer::Kind::kLowercase;
  EXPECT_THAT(ErrorOf(spec), HasSubstr("normalizer"));
}

}  // namespace
}  // namespace strake
