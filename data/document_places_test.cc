#include "data/document_places.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/testing/temp_directory.h"
#include "data/data_loader.h"
#include "data/document_index.h"
#include "data/document_list.h"
#include "data/token_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int32_t kEnd = 99;

class DocumentPlacesTest : public ::testing::Test {
 protected:
  // Documents of these lengths, the last token of each is kEnd unless it goes on.
  std::string Write(const std::string& name, const std::vector<int64_t>& lengths,
                    const std::vector<DocumentName>& names, bool goes_on = false) {
    std::vector<int32_t> tokens;
    DocumentIndex index;
    index.tokenizer_hash = "hash";
    index.vocab_size = 100;
    index.end_of_text = kEnd;
    for (size_t i = 0; i < lengths.size(); ++i) {
      if (index.sources.empty() || index.sources.back() != names[i].path) {
        index.sources.push_back(names[i].path);
      }
      index.documents.push_back({static_cast<int64_t>(tokens.size()), names[i].offset,
                                 static_cast<int32_t>(index.sources.size() - 1)});
      tokens.resize(tokens.size() + lengths[i], static_cast<int32_t>(i + 1));
      if (i + 1 < lengths.size() || !goes_on) tokens.back() = kEnd;
    }
    index.num_tokens = static_cast<int64_t>(tokens.size());
    const std::string path = directory_ / name;
    EXPECT_TRUE(WriteTokenFile(path, tokens, TokenEncoding::kUint16).ok());
    EXPECT_TRUE(WriteDocumentIndex(path, index).ok());
    return path;
  }

  const testing::TempDirectory directory_;
};

// "begin-end name+from" of each part.
std::vector<std::string> Texts(const std::vector<DocumentTokens>& parts) {
  std::vector<std::string> texts;
  for (const DocumentTokens& part : parts) {
    texts.push_back(absl::StrCat(part.tokens.begin, "-", part.tokens.end, " ", part.name.path, ":",
                                 part.name.offset, "+", part.tokens.begin - part.begin,
                                 part.is_known ? "" : "?"));
  }
  return texts;
}

TEST_F(DocumentPlacesTest, ARangeIsCutAtDocumentsAndFiles) {
  const std::string a = Write("a.bin", {3, 4, 2}, {{"x", 0}, {"x", 50}, {"y", 0}});
  const std::string b = directory_ / "b.bin";
  ASSERT_TRUE(WriteTokenFile(b, std::vector<int32_t>(5, 7), TokenEncoding::kUint16).ok());
  testing::WriteFile(directory_ / "c.txt", "text");
  const auto stream = TokenStream::Open({a, b, directory_ / "c.txt"}, 256);
  ASSERT_TRUE(stream.ok()) << stream.status();
  DocumentPlaces places(&*stream);
  const auto parts = places.PartsOf({1, 17});
  ASSERT_TRUE(parts.ok()) << parts.status();
  EXPECT_THAT(Texts(*parts),
              ElementsAre("1-3 x:0+1", "3-7 x:50+0", "7-9 y:0+0", absl::StrCat("9-14 ", b, ":0+0?"),
                          absl::StrCat("14-17 ", directory_ / "c.txt", ":0+0")));
  EXPECT_EQ((*parts)[1].document, 1);
  EXPECT_EQ((*parts)[1].file, 0);
  EXPECT_EQ((*parts)[3].file_begin, 9);
  const auto one = places.PartsOf({4, 5});
  EXPECT_THAT(Texts(*one), ElementsAre("4-5 x:50+1"));
}

TEST_F(DocumentPlacesTest, ADocumentGoesOnInTheNextFiles) {
  const std::string a = Write("a.bin", {3, 4}, {{"x", 0}, {"x", 50}}, /*goes_on=*/true);
  const std::string b = Write("b.bin", {6}, {{"x", 50}}, /*goes_on=*/true);
  const std::string c = Write("c.bin", {2, 2}, {{"x", 50}, {"x", 90}});
  // The same text once more.
  const std::string d = Write("d.bin", {2}, {{"x", 90}});
  const auto stream = TokenStream::Open({a, b, c, d}, 100);
  ASSERT_TRUE(stream.ok()) << stream.status();
  const auto parts = DocumentPlaces(&*stream).PartsOf({6, 19});
  ASSERT_TRUE(parts.ok()) << parts.status();
  EXPECT_THAT(Texts(*parts), ElementsAre("6-7 x:50+3", "7-13 x:50+4", "13-15 x:50+10",
                                         "15-17 x:90+0", "17-19 x:90+0"));
  const std::vector<ListedDocument> list = {{{"x", 50}, 1}, {{"x", 51}, 2}, {{"x", 50}, 3}};
  std::vector<bool> found(3);
  const auto ranges = FindDocuments(*stream, list, &found);
  ASSERT_TRUE(ranges.ok()) << ranges.status();
  EXPECT_THAT(*ranges, ElementsAre(TokenRange{3, 7}, TokenRange{7, 13}, TokenRange{13, 15}));
  EXPECT_THAT(found, ElementsAre(true, false, true));
}

TEST_F(DocumentPlacesTest, ADamagedIndexIsNamed) {
  const std::string a = Write("a.bin", {3}, {{"x", 0}});
  testing::WriteFile(directory_ / "a.documents", "strakedx");
  const auto stream = TokenStream::Open({a}, 100);
  EXPECT_THAT(std::string(DocumentPlaces(&*stream).PartsOf({0, 1}).status().message()),
              HasSubstr("a.documents"));
  std::vector<bool> found;
  EXPECT_THAT(std::string(FindDocuments(*stream, {}, &found).status().message()),
              HasSubstr("a.documents"));
}

// Each position of each pattern of a few tokens, one by one.
TEST(TokenRangesTest, WithoutIsWhatIsInOneAndNotInTheOther) {
  const auto ranges_of = [](int bits) {
    std::vector<TokenRange> ranges;
    for (int i = 0; i < 6; ++i) {
      if (bits >> i & 1) ranges.push_back({i, i + 1});
    }
    return ranges;
  };
  for (int a = 0; a < 64; ++a) {
    for (int b = 0; b < 64; ++b) {
      const TokenRanges cut(ranges_of(b));
      const TokenRanges want(ranges_of(a & ~b));
      EXPECT_TRUE(Without(TokenRanges(ranges_of(a)), ranges_of(b)) == want) << a << " " << b;
      EXPECT_TRUE(Without(TokenRanges(ranges_of(a)), cut.ranges()) == want) << a << " " << b;
    }
  }
}

TEST_F(DocumentPlacesTest, TokensOfAreThoseThatLoadReads) {
  std::vector<int32_t> tokens(60);
  for (int i = 0; i < 60; ++i) tokens[i] = i;
  const std::string path = directory_ / "numbers.bin";
  ASSERT_TRUE(WriteTokenFile(path, tokens, TokenEncoding::kUint16).ok());
  const auto stream = TokenStream::Open({path}, 100);
  const auto loader =
      DataLoader::Create(&*stream, TokenRanges({{2, 9}, {11, 12}, {20, 55}}), {.seq_len = 5});
  ASSERT_TRUE(loader.ok()) << loader.status();
  std::vector<int32_t> row(5), targets(5);
  for (int64_t sample = 0; sample < 2 * loader->num_samples() + 1; ++sample) {
    const Shape shape = {5};
    ASSERT_TRUE(loader
                    ->Load(sample, 1, Tensor(row.data(), DType::kI32, shape),
                           Tensor(targets.data(), DType::kI32, shape))
                    .ok());
    std::vector<int32_t> located;
    for (const TokenRange& range : loader->TokensOf(sample)) {
      for (int64_t i = range.begin; i < range.end; ++i) located.push_back(static_cast<int32_t>(i));
    }
    EXPECT_EQ(located, row) << sample;
  }
}

TEST(DocumentListTest, ListsAreRead) {
  const auto list = ParseDocumentList(
      "# a comment\n\nbooks/a b.jsonl:17\r\n\t c:d.txt:0  \n\\x23x\\x5c.txt:5\n  #no:1\n a:0",
      "list");
  ASSERT_TRUE(list.ok()) << list.status();
  std::vector<std::string> texts;
  for (const ListedDocument& document : *list) {
    texts.push_back(
        absl::StrCat(document.line, " ", document.name.path, " ", document.name.offset));
  }
  EXPECT_THAT(texts, ElementsAre("3 books/a b.jsonl 17", "4 c:d.txt 0", "5 #x\\.txt 5", "7 a 0"));
}

TEST(DocumentListTest, NamesAreOneLine) {
  EXPECT_EQ(ToListLine({"books/a b.jsonl", 17}), "books/a b.jsonl:17");
  EXPECT_EQ(ToListLine({"#a\nb\\c\x7f", 0}), "\\x23a\\x0ab\\x5cc\\x7f:0");
  EXPECT_EQ(ToListLine({" #\xc2\x85\xc3\x85", 0}), "\\x20#\\xc2\\x85\xc3\x85:0");
}

TEST(DocumentListTest, LinesThatNameNothingAreErrors) {
  const auto error = [](const char* text) {
    return std::string(ParseDocumentList(text, "skip_data=f").status().message());
  };
  EXPECT_EQ(error("a:0\n\na.txt\n"),
            "skip_data=f: line 3: \"a.txt\" is not PATH:OFFSET, a path and the byte at which a "
            "document begins");
  for (const char* text : {"a:", ":", ":5", "a:-1", "a:+1", "a: 1", "a:1x", "a:0x1",
                           "a:9223372036854775808", "a:1.0"}) {
    EXPECT_THAT(error(text), HasSubstr("is not PATH:OFFSET")) << text;
  }
  EXPECT_THAT(error("a\\b:0"), HasSubstr("line 1: \"a\\b:0\" has a \\ that begins no \\xNN"));
  EXPECT_THAT(error("a\\x4:0"), HasSubstr("write \\x5c"));
  EXPECT_THAT(error("a\x1b[2J"), HasSubstr("\\x1b[2J"));
}

}  // namespace
}  // namespace strake
