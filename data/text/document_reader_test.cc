#include "data/text/document_reader.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/testing/temp_directory.h"
#include "data/text/compress.h"
#include "data/text/line_reader.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::ElementsAre;
using testing::Gzip;
using ::testing::HasSubstr;
using testing::TempDirectory;
using testing::WriteFile;
using testing::Zstd;

struct Document {
  std::string text;
  int64_t offset;
  bool operator==(const Document&) const = default;
};

struct Result {
  std::vector<Document> documents;
  absl::Status status;
  int64_t num_bad_lines = 0, num_empty_documents = 0;
  std::string first_bad_line;
};

Result ReadAll(const std::string& name, const std::string& bytes,
               const DocumentOptions& options = {}) {
  Result result;
  const auto reader = DocumentReader::OfBytes(name, bytes, options);
  result.status = reader.status();
  if (!reader.ok()) return result;
  DocumentPart part;
  bool begins = true;
  while (true) {
    const auto more = (*reader)->Next(&part);
    result.status = more.status();
    if (!more.ok() || !*more) break;
    if (begins) result.documents.push_back({"", part.offset});
    EXPECT_EQ(part.document, static_cast<int64_t>(result.documents.size()) - 1);
    EXPECT_EQ(part.offset, result.documents.back().offset);
    result.documents.back().text += std::string(part.text);
    begins = part.ends_document;
  }
  EXPECT_TRUE(begins || !result.status.ok());
  result.num_bad_lines = (*reader)->num_bad_lines();
  result.num_empty_documents = (*reader)->num_empty_documents();
  result.first_bad_line = (*reader)->first_bad_line();
  return result;
}

std::vector<Document> Documents(const std::string& name, const std::string& bytes,
                                const DocumentOptions& options = {}) {
  const Result result = ReadAll(name, bytes, options);
  EXPECT_TRUE(result.status.ok()) << result.status;
  return result.documents;
}

std::string Message(const std::string& name, const std::string& bytes) {
  const absl::Status status = ReadAll(name, bytes).status;
  EXPECT_FALSE(status.ok());
  return std::string(status.message());
}

TEST(DocumentReaderTest, NamesTellJsonLines) {
  for (const char* name :
       {"a.jsonl", "a.ndjson", "b.JSONL", "a.jsonl.gz", "a.ndjson.zst", "a.jsonl.zstd"}) {
    EXPECT_TRUE(IsJsonLines(name, {})) << name;
  }
  for (const char* name : {"a.txt", "a.md.gz", "a.json", "jsonl", "-", "a.jsonl.bz2"}) {
    EXPECT_FALSE(IsJsonLines(name, {})) << name;
  }
  EXPECT_TRUE(IsJsonLines("-", {.format = DocumentOptions::Format::kJsonLines}));
  EXPECT_FALSE(IsJsonLines("a.jsonl", {.format = DocumentOptions::Format::kText}));
}

TEST(DocumentReaderTest, ATextIsOneDocument) {
  EXPECT_THAT(Documents("a.txt", "Line\r\n\nline"), ElementsAre(Document{"Line\r\n\nline", 0}));
  EXPECT_THAT(Documents("a.md", "\xef\xbb\xbfmarked \xef\xbb\xbf"),
              ElementsAre(Document{"marked \xef\xbb\xbf", 3}));
  EXPECT_THAT(Documents("a.c", "caf\xe9\n"), ElementsAre(Document{"caf\xe9\n", 0}));
}

TEST(DocumentReaderTest, ALongTextComesInParts) {
  for (const size_t size : {(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20}) {
    std::string text;
    while (text.size() < size) text += std::to_string(text.size()) + " ";
    text.resize(size);
    EXPECT_TRUE(Documents("a.txt", text) == std::vector<Document>({{text, 0}})) << size;
    EXPECT_TRUE(Documents("a.txt.gz", Gzip(text)) == std::vector<Document>({{text, 0}})) << size;
  }
}

TEST(DocumentReaderTest, JsonLines) {
  const std::string lines =
      "{\"text\": \"one\"}\n"
      "\n \t\r\n"
      "{\"id\": 2, \"text\": \"tw\\u00f6\\n\"}\r\n"
      "{\"text\": \"three\"}";
  const std::vector<Document> documents = {{"one", 0}, {"twö\n", 21}, {"three", 54}};
  EXPECT_TRUE(Documents("a.jsonl", lines) == documents);
  EXPECT_TRUE(Documents("a.jsonl.gz", Gzip(lines)) == documents);
  EXPECT_TRUE(Documents("compressed all the same.jsonl", Zstd(lines)) == documents);
  EXPECT_TRUE(Documents("a.jsonl", lines + "\n") == documents);
  EXPECT_THAT(Documents("a.jsonl", "\xef\xbb\xbf{\"text\": \"marked\"}"),
              ElementsAre(Document{"marked", 3}));
  EXPECT_THAT(Documents("a.jsonl", "{\"text\": \"no\", \"body\": \"yes\"}", {.field = "body"}),
              ElementsAre(Document{"yes", 0}));
  EXPECT_THAT(Documents("a.txt", "{\"text\": 1}"), ElementsAre(Document{"{\"text\": 1}", 0}));
}

TEST(DocumentReaderTest, LinesOfAnyLength) {
  std::string lines;
  std::vector<Document> documents;
  for (const size_t length : {10, 1 << 20, 5, 5000000, 1048560, 3}) {
    documents.push_back({std::string(length, 'x'), static_cast<int64_t>(lines.size())});
    lines += "{\"text\": \"" + documents.back().text + "\"}\n";
  }
  EXPECT_TRUE(Documents("a.jsonl", lines) == documents);
}

TEST(DocumentReaderTest, BadLinesAreNamed) {
  const std::string good = "{\"text\": \"one\"}\n\n";
  EXPECT_EQ(Message("a.jsonl", good + "{\"text\": \"tw"),
            "a.jsonl: line 3, column 10: the string that begins here does not end");
  EXPECT_EQ(Message("a.jsonl", good + "{\"body\": \"two\"}\n"),
            "a.jsonl: line 3, column 1: has no member \"text\"; it has body");
  EXPECT_EQ(Message("a.jsonl", good + "{\"text\": 2}\n"),
            "a.jsonl: line 3, column 10: member \"text\" is a number, not a string");
  EXPECT_EQ(Message("a.jsonl", good + "{\"text\": \"\"}\n"),
            "a.jsonl: line 3: its document is empty");
}

TEST(DocumentReaderTest, BadLinesAreCounted) {
  const Result result = ReadAll("a.jsonl",
                                "{\"text\": \"one\"}\n"
                                "{\"text\": \n"
                                "{\"text\": \"\"}\n"
                                "{\"body\": \"three\"}\n"
                                "{\"text\": \"four\"}\n",
                                {.skip_bad_lines = true});
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_THAT(result.documents, ElementsAre(Document{"one", 0}, Document{"four", 57}));
  EXPECT_EQ(result.num_bad_lines, 2);
  EXPECT_EQ(result.num_empty_documents, 1);
  EXPECT_EQ(result.first_bad_line, "a.jsonl: line 2, column 10: a value is missing");
}

TEST(DocumentReaderTest, EmptyFiles) {
  for (const char* name : {"a.txt", "a.jsonl"}) {
    for (const std::string& bytes : {std::string(), std::string("\xef\xbb\xbf"), Gzip("")}) {
      EXPECT_EQ(Message(name, bytes), std::string(name) + ": is empty");
      const Result skipped = ReadAll(name, bytes, {.skip_bad_lines = true});
      EXPECT_TRUE(skipped.status.ok()) << skipped.status;
      EXPECT_TRUE(skipped.documents.empty());
      EXPECT_EQ(skipped.num_empty_documents, 1);
    }
  }
}

TEST(DocumentReaderTest, OnlyTextIsText) {
  const std::string array("\x93NUMPY\x01\0v\0", 10);
  EXPECT_EQ(Message("a.txt", array), "a.txt: is a NumPy array, not text; save its text as UTF-8");
  EXPECT_THAT(Message("a.jsonl.gz", Gzip(array)), HasSubstr("a.jsonl.gz: is a NumPy array"));
  EXPECT_THAT(Message("a.txt.gz", Gzip(Gzip("a"))), HasSubstr("is a gzip file, not text"));
}

TEST(DocumentReaderTest, ACutStreamIsAnErrorAndNotAnEnd) {
  const std::string text(3000000, 'a');
  for (const std::string& whole : {Gzip(text), Zstd(text)}) {
    const Result result = ReadAll("a.txt", whole.substr(0, whole.size() - 1));
    EXPECT_TRUE(absl::IsDataLoss(result.status)) << result.status;
    EXPECT_THAT(std::string(result.status.message()), HasSubstr("cut off at byte"));
  }
}

TEST(DocumentReaderTest, OpensFiles) {
  const TempDirectory directory;
  WriteFile(directory / "a.jsonl.zst", Zstd("{\"text\": \"one\"}"));
  const auto reader = DocumentReader::Open(directory / "a.jsonl.zst", {});
  DocumentPart part;
  ASSERT_TRUE(*(*reader)->Next(&part));
  EXPECT_EQ(std::string(part.text), "one");
  EXPECT_FALSE(*(*reader)->Next(&part));
  EXPECT_THAT(std::string(DocumentReader::Open("missing.txt", {}).status().message()),
              HasSubstr("missing.txt"));
}

TEST(LineAtTest, CountsLinesOfTheDecompressedFile) {
  const TempDirectory directory;
  const std::string path = directory / "a.jsonl.gz";
  WriteFile(path, Gzip("\xef\xbb\xbfone\n\nthree\n"));
  EXPECT_EQ(LineAt(path, 3), 1) << "after the mark";
  EXPECT_EQ(LineAt(path, 7), 2);
  EXPECT_EQ(LineAt(path, 8), 3);
  for (const int64_t nowhere : {0, 4, 9, 14, 100}) EXPECT_EQ(LineAt(path, nowhere), std::nullopt);
  for (const std::string& none : {directory / "none", directory.path(), std::string("-")}) {
    EXPECT_EQ(LineAt(none, 0), std::nullopt) << none;
  }
}

}  // namespace
}  // namespace strake
