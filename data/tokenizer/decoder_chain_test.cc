#include "data/tokenizer/decoder_chain.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace strake {
namespace {

using Kind = DecodingStep::Kind;

TokenizerSpec SpecOf(std::vector<std::string> tokens, std::vector<DecodingStep> decoders) {
  TokenizerSpec spec;
  spec.tokens = std::move(tokens);
  spec.decoders = std::move(decoders);
  return spec;
}

std::string Text(const TokenizerSpec& spec, int32_t token, bool is_first = false) {
  const auto chain = DecoderChain::Create(spec);
  EXPECT_TRUE(chain.ok()) << chain.status();
  return std::string(chain->Text(token, is_first));
}

TEST(DecoderChainTest, WithoutDecodersTokensAreTheirBytes) {
  const TokenizerSpec spec = SpecOf({"a", "", "\xFF"}, {});
  EXPECT_EQ(Text(spec, 0), "a");
  EXPECT_EQ(Text(spec, 1), "");
  EXPECT_EQ(Text(spec, 2), "\xFF");
  EXPECT_EQ(Text(spec, 3), "");
  EXPECT_EQ(Text(spec, -1), "");
}

TEST(DecoderChainTest, StepsFollowOneAnother) {
  EXPECT_EQ(
      Text(SpecOf({"\u2581x\u2581"}, {{.kind = Kind::kReplace, .pattern = "\u2581", .content = " "},
                                      {.kind = Kind::kStrip, .content = " ", .stop = 1}}),
           0),
      " x");
}

TEST(DecoderChainTest, StripTakesAtMostSoMany) {
  const auto spec =
      SpecOf({"--a---", "--"}, {{.kind = Kind::kStrip, .content = "-", .start = 1, .stop = 2}});
  EXPECT_EQ(Text(spec, 0), "-a-");
  EXPECT_EQ(Text(spec, 1), "");
}

// As Hugging Face's Metaspace does: in the first token all marks go, in others they are blanks.
TEST(DecoderChainTest, MetaspaceDropsTheMarksOfTheFirstToken) {
  auto spec = SpecOf({"\u2581\u2581"
                      "a"},
                     {{.kind = Kind::kMetaspace, .pattern = "\u2581", .drop_first = true}});
  EXPECT_EQ(Text(spec, 0, /*is_first=*/true), "a");
  EXPECT_EQ(Text(spec, 0, /*is_first=*/false), "  a");
  spec.decoders[0].drop_first = false;
  EXPECT_EQ(Text(spec, 0, /*is_first=*/true), "  a");
}

TEST(DecoderChainTest, ByteTokensBecomeBytesWhereADecoderSaysSo) {
  auto spec = SpecOf({}, {{.kind = Kind::kByteFallback}});
  for (int byte = 0; byte < 256; ++byte) {
    spec.byte_tokens.push_back(byte);
    spec.tokens.push_back("<byte>");
  }
  EXPECT_EQ(Text(spec, 0xE9), "\xE9");
  spec.decoders.clear();
  EXPECT_EQ(Text(spec, 0xE9), "<byte>");
}

TEST(DecoderChainTest, UnknownTextStandsForTheUnknownToken) {
  auto spec = SpecOf({"<unk>", "a"}, {});
  spec.unknown = 0;
  EXPECT_EQ(Text(spec, 0), "<unk>");
  spec.unknown_text = " ?? ";
  EXPECT_EQ(Text(spec, 0), " ?? ");
}

TEST(DecoderChainTest, AfterFuseOnlyTheEndsAreTrimmed) {
  const auto spec = SpecOf({" a"}, {{.kind = Kind::kFuse},
                                    {.kind = Kind::kReplace, .pattern = "\u2581", .content = " "},
                                    {.kind = Kind::kStrip, .content = " ", .start = 1, .stop = 2}});
  const auto chain = DecoderChain::Create(spec);
  ASSERT_TRUE(chain.ok());
  EXPECT_EQ(chain->Text(0, true), " a");
  EXPECT_EQ(chain->trim_begin().content, " ");
  EXPECT_EQ(chain->trim_begin().count, 1);
  EXPECT_EQ(chain->trim_end().count, 2);
  const auto longer = SpecOf(
      {" a"}, {{.kind = Kind::kFuse}, {.kind = Kind::kReplace, .pattern = "ab", .content = " "}});
  EXPECT_FALSE(DecoderChain::Create(longer).ok());
}

}  // namespace
}  // namespace strake
