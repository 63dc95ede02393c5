#include <string>
#include <vector>

#include "core/base/utf8.h"
#include "data/tokenizer/random_spec.h"
#include "data/tokenizer/tokenizer.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

std::unique_ptr<const Tokenizer> Bytes() {
  Random random(1);
  TokenizerSpec spec = RandomByteLevelSpec("a", 0, &random);
  spec.tokens.push_back("<s>");
  spec.added = {{.id = 256, .text = "<s>", .special = true}};
  return std::move(Tokenizer::Create(spec)).value();
}

// What Add() and, last, End() return.
std::vector<std::string> Printed(const Tokenizer& tokenizer, const std::vector<int32_t>& tokens,
                                 bool skip_special = true) {
  StreamDecoder decoder(&tokenizer, skip_special);
  std::vector<std::string> printed;
  for (const int32_t token : tokens) printed.push_back(decoder.Add(token));
  printed.push_back(decoder.End());
  return printed;
}

std::vector<std::string> PrintedBytes(const std::string& bytes) {
  return Printed(*Bytes(), {reinterpret_cast<const uint8_t*>(bytes.data()),
                            reinterpret_cast<const uint8_t*>(bytes.data()) + bytes.size()});
}

using Texts = std::vector<std::string>;

TEST(StreamDecoderTest, PrintsWholeCharacters) {
  EXPECT_EQ(PrintedBytes("a\u00E9\u4E2D\U0001F600"),
            (Texts{"a", "", "\u00E9", "", "", "\u4E2D", "", "", "", "\U0001F600", ""}));
}

TEST(StreamDecoderTest, WhatIsNeverCompletedIsReplaced) {
  EXPECT_EQ(PrintedBytes("\xE4\xB8"), (Texts{"", "", "\uFFFD"}));
  EXPECT_EQ(PrintedBytes("\xE4\xB8x"), (Texts{"", "", "\uFFFDx", ""}));
  EXPECT_EQ(PrintedBytes("\xFF\xF0\x9F\xC3\xA9"),
            (Texts{"\uFFFD", "", "", "\uFFFD", "\u00E9", ""}));
  // A surrogate, and a form that is too long: each byte is no character.
  EXPECT_EQ(PrintedBytes("\xED\xA0\x80"), (Texts{"", "\uFFFD\uFFFD", "\uFFFD", ""}));
  EXPECT_EQ(PrintedBytes("\xC0\x80"), (Texts{"\uFFFD", "\uFFFD", ""}));
}

TEST(StreamDecoderTest, SkipsSpecialTokens) {
  EXPECT_EQ(Printed(*Bytes(), {'a', 256, 'b'}), (Texts{"a", "", "b", ""}));
  EXPECT_EQ(Printed(*Bytes(), {'a', 256, 'b'}, false), (Texts{"a", "<s>", "b", ""}));
  EXPECT_EQ(Printed(*Bytes(), {-1, 300}), (Texts{"", "", ""}));
}

std::string Join(const Texts& texts) {
  std::string joined;
  for (const std::string& text : texts) joined += text;
  return joined;
}

TEST(StreamDecoderTest, PrintsWhatDecodeGives) {
  Random random(2);
  TokenizerSpec trimmed = RandomSentencePieceSpec(40, false, &random);
  trimmed.decoders.back().start = 2;
  trimmed.decoders.back().stop = 3;
  TokenizerSpec metaspace = RandomSentencePieceSpec(40, false, &random);
  metaspace.decoders = {
      {.kind = DecodingStep::Kind::kMetaspace, .pattern = "\u2581", .drop_first = true},
      {.kind = DecodingStep::Kind::kByteFallback}};
  for (const TokenizerSpec& spec :
       {trimmed, metaspace, RandomSentencePieceSpec(40, false, &random)}) {
    const auto tokenizer = std::move(Tokenizer::Create(spec)).value();
    for (int round = 0; round < 500; ++round) {
      const std::string text = RandomText({" ", " ", "a", "b", ".", "\u4E2D", "\U0001F600"},
                                          Below(12, &random), &random);
      WordCache cache;
      std::vector<int32_t> tokens;
      tokenizer->Encode(text, &cache, &tokens);
      const Texts printed = Printed(*tokenizer, tokens);
      ASSERT_EQ(Join(printed), tokenizer->Decode(tokens, true)) << "'" << text << "'";
      for (const std::string& part : printed) ASSERT_EQ(ValidUtf8Prefix(part), part.size());
    }
  }
}

}  // namespace
}  // namespace strake
