#include "data/document_index.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/base/crc32c.h"
#include "core/testing/temp_directory.h"
#include "data/target_ranges.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::ReadFile;
using testing::TempDirectory;
using testing::WriteFile;

DocumentIndex SmallIndex() {
  DocumentIndex index;
  index.tokenizer_hash = "0123456789abcdef";
  index.vocab_size = 300;
  index.num_tokens = 20;
  index.end_of_text = 299;
  index.num_text_bytes = 17;
  index.sources = {"books/a,b.txt", "", "c\n.jsonl"};
  index.documents = {{0, 3, 0}, {7, 0, 2}, {7, int64_t{1} << 40, 2}, {20, 5, 1}};
  return index;
}

// The bytes with their checksum made right, so that what it protects is seen to be checked too.
std::string Sealed(std::string bytes) {
  const uint32_t crc = ExtendCrc32c(0, absl::string_view(bytes).substr(0, bytes.size() - 4));
  std::memcpy(&bytes[bytes.size() - 4], &crc, 4);
  return bytes;
}

std::string Message(const std::string& bytes) {
  const auto index = ParseDocumentIndex("x.documents", bytes);
  EXPECT_TRUE(absl::IsDataLoss(index.status())) << index.status();
  return std::string(index.status().message());
}

TEST(DocumentIndexTest, Path) {
  EXPECT_EQ(DocumentIndexPath("a.bin/b.bin"), "a.bin/b.documents");
  EXPECT_EQ(DocumentIndexPath("tokens"), "tokens.documents");
}

TEST(DocumentIndexTest, RoundTrip) {
  const TempDirectory directory;
  for (const DocumentIndex& index : {SmallIndex(), [] {
                                       DocumentIndex empty;
                                       empty.vocab_size = 1;
                                       return empty;
                                     }()}) {
    ASSERT_TRUE(WriteDocumentIndex(directory / "t.bin", index).ok());
    const auto read = ReadDocumentIndex(directory / "t.bin", index.num_tokens);
    ASSERT_TRUE(read.ok()) << read.status();
    ASSERT_TRUE(read->has_value());
    EXPECT_TRUE(**read == index);
  }
}

TEST(DocumentIndexTest, ThereMayBeNone) {
  const TempDirectory directory;
  const auto read = ReadDocumentIndex(directory / "t.bin", 3);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_FALSE(read->has_value());
}

// The index of a file without them is what earlier versions wrote.
TEST(DocumentIndexTest, TargetsThatAreMissingAreDamage) {
  const TempDirectory directory;
  const std::string file = directory / "t.bin";
  DocumentIndex index = SmallIndex();
  std::string bytes = DocumentIndexBytes(index);
  EXPECT_EQ(bytes[8], 1);
  index.has_targets = true;
  bytes[8] = 2;
  EXPECT_EQ(DocumentIndexBytes(index), Sealed(bytes));
  ASSERT_TRUE(WriteDocumentIndex(file, index).ok());
  const auto missing = ReadDocumentIndex(file, 20);
  EXPECT_TRUE(absl::IsDataLoss(missing.status())) << missing.status();
  EXPECT_THAT(std::string(missing.status().message()),
              AllOf(HasSubstr("t.targets: is missing"), HasSubstr("t.documents says")));
  ASSERT_TRUE(WriteTargetRanges(file, {.num_tokens = 20, .ranges = {{3, 5}}}).ok());
  const auto read = ReadDocumentIndex(file, 20);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(**read == index);
}

TEST(DocumentIndexTest, EveryCutAndEveryChangedBitIsFound) {
  const std::string good = DocumentIndexBytes(SmallIndex());
  ASSERT_TRUE(ParseDocumentIndex("x", good).ok());
  for (size_t size = 0; size < good.size(); ++size) Message(good.substr(0, size));
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    Message(bad);
  }
  EXPECT_THAT(Message(good + "x"), HasSubstr("longer"));
}

TEST(DocumentIndexTest, ContradictionsAreNamed) {
  const auto message = [](auto change) {
    DocumentIndex index = SmallIndex();
    change(&index);
    return Message(DocumentIndexBytes(index));
  };
  EXPECT_THAT(message([](DocumentIndex* i) { i->documents[0].begin = 1; }),
              HasSubstr("x.documents: document 0 begins at token 1"));
  EXPECT_THAT(message([](DocumentIndex* i) { i->documents[2].begin = 6; }),
              HasSubstr("document 2 begins at token 6, after one at 7"));
  EXPECT_THAT(message([](DocumentIndex* i) { i->documents[3].begin = 21; }),
              HasSubstr("of 20 tokens"));
  EXPECT_THAT(message([](DocumentIndex* i) { i->documents[1].source = 3; }),
              HasSubstr("source 3 of 3"));
  EXPECT_THAT(message([](DocumentIndex* i) { i->documents[1].offset = -1; }), HasSubstr("byte -1"));
  EXPECT_THAT(message([](DocumentIndex* i) { i->end_of_text = 300; }),
              HasSubstr("end-of-text token is 300"));
  EXPECT_THAT(message([](DocumentIndex* i) { i->vocab_size = 0; }), HasSubstr("size is 0"));
  EXPECT_THAT(message([](DocumentIndex* i) { i->num_text_bytes = -1; }), HasSubstr("is -1"));
}

TEST(DocumentIndexTest, HugeCountsAreRefused) {
  std::string bytes = DocumentIndexBytes(SmallIndex());
  const int64_t huge = int64_t{1} << 61;  // times 8 it would be 0
  const size_t hash_length = 8 + 4 + 4 + 3 * 8;
  for (const size_t at : {hash_length, hash_length + 8 + SmallIndex().tokenizer_hash.size()}) {
    std::string bad = bytes;
    std::memcpy(&bad[at], &huge, sizeof(huge));
    EXPECT_THAT(Message(Sealed(bad)), HasSubstr("cut off or damaged"));
  }
}

TEST(DocumentIndexTest, AnotherVersion) {
  std::string bytes = DocumentIndexBytes(SmallIndex());
  bytes[8] = 3;
  EXPECT_THAT(Message(Sealed(bytes)), HasSubstr("has version 3, and 1 and 2 are known"));
}

TEST(DocumentIndexTest, AnotherTokenFile) {
  const TempDirectory directory;
  ASSERT_TRUE(WriteDocumentIndex(directory / "t.bin", SmallIndex()).ok());
  const auto read = ReadDocumentIndex(directory / "t.bin", 19);
  EXPECT_TRUE(absl::IsDataLoss(read.status()));
  EXPECT_THAT(std::string(read.status().message()), HasSubstr("is of 20 tokens"));
}

}  // namespace
}  // namespace strake
