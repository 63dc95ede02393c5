#include "data/tokenizer/byte_pair_model.h"

#include <string>
#include <vector>

#include "data/tokenizer/merge_reference.h"
#include "data/tokenizer/random_spec.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using Tokens = std::vector<int32_t>;

BytePairModel ModelOf(const TokenizerSpec& spec) {
  auto model = BytePairModel::Create(spec);
  EXPECT_TRUE(model.ok()) << model.status();
  return std::move(model).value();
}

Tokens Encode(const BytePairModel& model, const std::string& word) {
  MergeScratch scratch;
  Tokens tokens;
  model.Encode(word, &scratch, &tokens);
  return tokens;
}

Tokens EncodeUncut(const BytePairModel& model, const std::string& word) {
  MergeScratch scratch;
  Tokens tokens;
  model.EncodeUncut(word, &scratch, &tokens);
  return tokens;
}

// All bytes, and these tokens, each a merge of the tokens of its two parts.
TokenizerSpec SpecOf(const std::vector<std::pair<std::string, std::string>>& merges) {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) spec.tokens.emplace_back(1, static_cast<char>(byte));
  const auto id_of = [&](const std::string& text) {
    for (int32_t id = 0; id < spec.tokens.size(); ++id) {
      if (spec.tokens[id] == text) return id;
    }
    spec.tokens.push_back(text);
    return static_cast<int32_t>(spec.tokens.size() - 1);
  };
  for (const auto& [left, right] : merges) {
    const auto rank = static_cast<int64_t>(spec.merges.size());
    spec.merges.push_back({id_of(left), id_of(right), id_of(left + right), rank});
  }
  return spec;
}

TEST(BytePairModelTest, DoesTheLowestRankFirst) {
  const TokenizerSpec spec = SpecOf({{"b", "c"}, {"a", "b"}, {"ab", "c"}});
  EXPECT_EQ(Encode(ModelOf(spec), "abc"), (Tokens{'a', 256}));
  EXPECT_EQ(Encode(ModelOf(spec), "ab"), (Tokens{257}));
}

TEST(BytePairModelTest, DoesTheLeftmostOfEqualRanks) {
  EXPECT_EQ(Encode(ModelOf(SpecOf({{"a", "a"}})), "aaa"), (Tokens{256, 'a'}));
  TokenizerSpec spec = SpecOf({{"a", "b"}, {"b", "c"}});
  for (Merge& merge : spec.merges) merge.rank = -7;
  EXPECT_EQ(Encode(ModelOf(spec), "abc"), (Tokens{256, 'c'}));
}

TEST(BytePairModelTest, TheLastOfEqualPairsCounts) {
  TokenizerSpec spec = SpecOf({{"a", "b"}, {"b", "c"}, {"a", "b"}});
  EXPECT_EQ(Encode(ModelOf(spec), "abc"), (Tokens{'a', 257}));
}

TEST(BytePairModelTest, TakesRanksOfAnySize) {
  TokenizerSpec spec = SpecOf({{"a", "b"}, {"b", "c"}});
  spec.merges[0].rank = int64_t{1} << 40;
  spec.merges[1].rank = -(int64_t{1} << 40);
  EXPECT_EQ(Encode(ModelOf(spec), "abc"), (Tokens{'a', 257}));
}

TEST(BytePairModelTest, EqualsTheDefinition) {
  Random random(1);
  int num_merged = 0;
  for (int round = 0; round < 60; ++round) {
    const TokenizerSpec spec = RandomByteLevelSpec("abc", 5 + round, &random);
    const BytePairModel model = ModelOf(spec);
    for (const size_t size : {0, 1, 2, 3, 7, 20, 47, 48, 49, 90}) {
      const std::string word = RandomText({"a", "b", "c"}, size, &random);
      const Tokens expected = MergeReference(spec.merges, Tokens(word.begin(), word.end()));
      ASSERT_EQ(Encode(model, word), expected) << word;
      num_merged += size - expected.size();
    }
  }
  EXPECT_GT(num_merged, 1000);
}

MergeTable TableOf(const TokenizerSpec& spec) {
  MergeTable table(spec.merges.size());
  for (const Merge& merge : spec.merges) {
    table.Set(merge.left, merge.right, static_cast<uint32_t>(merge.rank), merge.result);
  }
  return table;
}

TEST(BytePairModelTest, ScanningAndTheHeapGiveTheSame) {
  Random random(2);
  for (int round = 0; round < 200; ++round) {
    const MergeTable table = TableOf(RandomByteLevelSpec("ab", 12, &random));
    const std::string word =
        RandomText({"a", "b"}, Below(kMaxScannedSymbols + 1, &random), &random);
    Tokens scanned(word.begin(), word.end());
    MergeScratch scratch;
    scratch.symbols = scanned;
    MergeByScanning(table, &scanned);
    MergeByHeap(table, &scratch);
    ASSERT_EQ(scanned, scratch.symbols) << word;
  }
}

// Each symbol goes into the heap once, and each merge puts in two: 3n in, and as many out.
TEST(BytePairModelTest, AMegabyteOfOneLetterTakesFewSteps) {
  std::vector<std::pair<std::string, std::string>> merges;
  for (size_t size = 1; size < 1024; size *= 2) {
    merges.emplace_back(std::string(size, 'a'), std::string(size, 'a'));
  }
  const TokenizerSpec spec = SpecOf(merges);
  const size_t size = size_t{1} << 20;
  MergeScratch scratch;
  Tokens tokens;
  ModelOf(spec).Encode(std::string(size, 'a'), &scratch, &tokens);
  EXPECT_EQ(tokens, Tokens(1024, 256 + 9));
  EXPECT_GT(scratch.num_heap_operations, size);
  EXPECT_LE(scratch.num_heap_operations, 6 * size);
}

TEST(BytePairModelTest, AMegabyteThatNothingMergesTakesNoSteps) {
  MergeScratch scratch;
  Tokens tokens;
  ModelOf(SpecOf({{"a", "b"}})).Encode(std::string(size_t{1} << 20, ' '), &scratch, &tokens);
  EXPECT_EQ(tokens, Tokens(size_t{1} << 20, ' '));
  EXPECT_EQ(scratch.num_heap_operations, 0);
}

TEST(BytePairModelTest, AWholeWordIsItsTokenWhereTheSpecSaysSo) {
  TokenizerSpec spec = SpecOf({{"a", "b"}});
  spec.tokens.push_back("xyz");
  EXPECT_EQ(Encode(ModelOf(spec), "xyz"), (Tokens{'x', 'y', 'z'}));
  spec.whole_words = true;
  EXPECT_EQ(Encode(ModelOf(spec), "xyz"), (Tokens{257}));
  EXPECT_EQ(Encode(ModelOf(spec), "xyzx"), (Tokens{'x', 'y', 'z', 'x'}));
}

TEST(BytePairModelTest, AnAddedTokenIsNoWord) {
  TokenizerSpec spec = SpecOf({{"a", "b"}});
  spec.whole_words = true;
  spec.tokens.push_back("xy");
  spec.added = {{.id = 257, .text = "xy"}, {.id = 256, .text = "ab"}};
  EXPECT_EQ(Encode(ModelOf(spec), "xy"), (Tokens{'x', 'y'}));
  EXPECT_EQ(Encode(ModelOf(spec), "ab"), (Tokens{256}));  // a merge makes it
}

TokenizerSpec CharacterSpec() {
  TokenizerSpec spec;
  spec.byte_level = false;
  spec.tokens = {"<unk>", "a", "\xC3\xA9", "a\xC3\xA9"};
  spec.merges = {{1, 2, 3, 0}};
  return spec;
}

TEST(BytePairModelTest, UnknownCharactersAreDroppedKeptOrFused) {
  TokenizerSpec spec = CharacterSpec();
  const std::string word = "xya\xC3\xA9z";
  EXPECT_EQ(Encode(ModelOf(spec), word), (Tokens{3}));
  spec.unknown = 0;
  EXPECT_EQ(Encode(ModelOf(spec), word), (Tokens{0, 0, 3, 0}));
  spec.fuse_unknown = true;
  EXPECT_EQ(Encode(ModelOf(spec), word), (Tokens{0, 3, 0}));
}

TEST(BytePairModelTest, UnknownCharactersAreTheirBytesWhereTheseAreTokens) {
  TokenizerSpec spec = CharacterSpec();
  for (int byte = 0; byte < 256; ++byte) {
    spec.byte_tokens.push_back(static_cast<int32_t>(spec.tokens.size()));
    spec.tokens.push_back("<" + std::to_string(byte) + ">");
  }
  EXPECT_EQ(Encode(ModelOf(spec), "\xC3\xB6 a\xFF"),
            (Tokens{4 + 0xC3, 4 + 0xB6, 4 + 0x20, 1, 4 + 0xFF}));
}

TEST(BytePairModelTest, AByteWithoutATokenIsUnknown) {
  TokenizerSpec spec;
  spec.tokens = {"a", "b", "<unk>"};
  EXPECT_EQ(Encode(ModelOf(spec), "axb"), (Tokens{0, 1}));
  spec.unknown = 2;
  EXPECT_EQ(Encode(ModelOf(spec), "axb"), (Tokens{0, 2, 1}));
}

TEST(BytePairModelTest, CuttingBeforeBlankMarksChangesNothing) {
  Random random(3);
  const std::vector<std::string> characters = {
      "\xE2\x96\x81", "\xE2\x96\x81", "a", "b", "c", ".", "\xC3\xA9", "x", "\xFF"};
  int num_parts = 0;
  for (int round = 0; round < 200; ++round) {
    TokenizerSpec spec = RandomSentencePieceSpec(60, /*marks_inside=*/false, &random);
    if (round % 2 == 0) spec.byte_tokens.clear();
    spec.fuse_unknown = round % 4 == 0;
    const BytePairModel model = ModelOf(spec);
    ASSERT_TRUE(model.cuts_at_blank_marks());
    const std::string text = RandomText(characters, Below(200, &random), &random);
    ASSERT_EQ(Encode(model, text), EncodeUncut(model, text)) << text;
    for (size_t begin = 0; begin < text.size(); begin = model.PartEnd(text, begin)) ++num_parts;
  }
  EXPECT_GT(num_parts, 1000);
}

TEST(BytePairModelTest, ATokenWithAnInnerMarkForbidsCuts) {
  Random random(4);
  const TokenizerSpec spec = RandomSentencePieceSpec(200, /*marks_inside=*/true, &random);
  const BytePairModel model = ModelOf(spec);
  EXPECT_FALSE(model.cuts_at_blank_marks());
  EXPECT_EQ(model.PartEnd("a\xE2\x96\x81"
                          "b",
                          0),
            5);
}

TEST(BytePairModelTest, RefusesMergesOfWhatIsNoToken) {
  TokenizerSpec spec = SpecOf({{"a", "b"}});
  spec.merges.push_back({'a', 'b', 300, 1});
  const auto model = BytePairModel::Create(spec);
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.status().message(),
            "merge 1 makes token 300 of 97 and 98, which are not all tokens; there are 257");
}

}  // namespace
}  // namespace strake
