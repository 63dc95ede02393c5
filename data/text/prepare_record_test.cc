#include "data/text/prepare_record.h"

#include <filesystem>
#include <string>
#include <vector>

#include "core/testing/temp_directory.h"
#include "data/text/byte_source.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::HasSubstr;
using testing::ReadFile;
using testing::TempDirectory;
using testing::WriteFile;

TEST(PrepareRecordTest, RoundTrip) {
  const TempDirectory directory;
  PrepareRecord record = {.settings = "tokenizer \"x\"\n", .next = {1, 2, 3}};
  record.sources = {{"a.txt", false, 5, 123456789012345678, 123456789012345679, 7, "f00", 0, 0, ""},
                    {"b,\n.jsonl", true, -1, -7, -1, -1, "", 4, 5, "b: line 1"}};
  record.files = {{"tokens-00000.bin", 10, 2, 30}};
  ASSERT_TRUE(WritePrepareRecord(directory / "r.json", record).ok());
  const auto read = ReadPrepareRecord(directory / "r.json");
  ASSERT_TRUE(read.ok() && read->has_value()) << read.status();
  EXPECT_EQ((*read)->settings, record.settings);
  EXPECT_TRUE((*read)->next == record.next);
  ASSERT_EQ((*read)->sources.size(), 2u);
  const PrepareSource& source = (*read)->sources[1];
  EXPECT_EQ(source.path, "b,\n.jsonl");
  EXPECT_TRUE(source.json_lines);
  EXPECT_EQ(source.num_bytes, -1);
  EXPECT_EQ(source.modified_ns, -7);
  EXPECT_EQ(source.num_bad_lines, 4);
  EXPECT_EQ(source.num_empty_documents, 5);
  EXPECT_EQ(source.first_bad_line, "b: line 1");
  EXPECT_EQ((*read)->sources[0].modified_ns, 123456789012345678);
  EXPECT_EQ((*read)->sources[0].changed_ns, 123456789012345679);
  EXPECT_EQ((*read)->sources[0].inode, 7);
  EXPECT_EQ((*read)->sources[0].fingerprint, "f00");
  ASSERT_EQ((*read)->files.size(), 1u);
  EXPECT_EQ((*read)->files[0].name, "tokens-00000.bin");
  EXPECT_EQ((*read)->files[0].num_text_bytes, 30);
  EXPECT_FALSE(ReadPrepareRecord(directory / "none.json")->has_value());
}

TEST(PrepareRecordTest, DamageIsAnError) {
  const std::string good =
      R"({"format": 1, "settings": "s", "sources": [], "files": [],
          "next": {"source": 0, "document": 0, "piece": 0}})";
  ASSERT_TRUE(ParsePrepareRecord("r.json", good).ok());
  struct Change {
    const char *from, *to;
  };
  for (const Change& change :
       std::vector<Change>{{"1", "2"},
                           {"\"s\"", "5"},
                           {"\"settings\"", "\"setting\""},
                           {"\"sources\": []", "\"sources\": {}"},
                           {"\"files\": []", "\"files\": [7]"},
                           {"\"files\": []", "\"files\": [{\"name\": \"x\"}]"},
                           {"\"piece\": 0", "\"piece\": 0.5"},
                           {"\"next\"", "\"last\""},
                           {"}}", "}"}}) {
    std::string bad = good;
    bad.replace(bad.find(change.from), std::string(change.from).size(), change.to);
    const auto record = ParsePrepareRecord("r.json", bad);
    EXPECT_FALSE(record.ok()) << bad;
    EXPECT_THAT(std::string(record.status().message()), HasSubstr("r.json"));
  }
  const std::string full =
      R"({"format": 1, "settings": "s", "next": {"source": 1, "document": 2, "piece": 3},
          "sources": [{"path": "a", "json_lines": false, "bytes": -1, "modified_ns": -7,
                       "fingerprint": "", "bad_lines": 4, "empty_documents": 5,
                       "first_bad_line": ""}],
          "files": [{"name": "tokens-00000.bin", "tokens": 6, "documents": 7,
                     "text_bytes": 8}]})";
  ASSERT_TRUE(ParsePrepareRecord("r.json", full).ok());
  EXPECT_EQ(ParsePrepareRecord("r.json", full)->sources[0].changed_ns, -1) << "of earlier versions";
  for (const Change& change :
       std::vector<Change>{{"\"source\": 1", "\"source\": 2"},
                           {"\"source\": 1", "\"source\": -5000000"},
                           {"\"document\": 2", "\"document\": -1"},
                           {"\"piece\": 3", "\"piece\": -1"},
                           {"\"bytes\": -1", "\"bytes\": -2"},
                           {"\"modified_ns\": -7", "\"modified_ns\": -7, \"inode\": \"a\""},
                           {"\"bad_lines\": 4", "\"bad_lines\": -1"},
                           {"\"empty_documents\": 5", "\"empty_documents\": -1"},
                           {"\"tokens\": 6", "\"tokens\": -1"},
                           {"\"tokens\": 6", "\"tokens\": 9223372036854775807"},
                           {"\"documents\": 7", "\"documents\": -1"},
                           {"\"text_bytes\": 8", "\"text_bytes\": 18446744073709551615"},
                           {"tokens-00000.bin", "tokens-00001.bin"},
                           {"tokens-00000.bin", "../../a.bin"}}) {
    std::string bad = full;
    bad.replace(bad.find(change.from), std::string(change.from).size(), change.to);
    EXPECT_TRUE(absl::IsDataLoss(ParsePrepareRecord("r.json", bad).status())) << bad;
  }
  for (const char* text : {"", "[]", "null", "{}"}) {
    EXPECT_FALSE(ParsePrepareRecord("r.json", text).ok()) << text;
  }
}

TEST(PrepareRecordTest, SourcesAreComparedByContent) {
  const TempDirectory directory;
  WriteFile(directory / "a.txt", "the content");
  auto a = DescribeSource(directory / "a.txt", false);
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_EQ(a->num_bytes, 11);
  PrepareSource other = *a;
  other.path = directory / "moved.txt";
  WriteFile(other.path, "the content");
  EXPECT_TRUE(SameFiles({*a}, {*a}));
  EXPECT_FALSE(SameFiles({*a}, {other}));
  EXPECT_FALSE(SameFiles({*a}, {*a, *a}));
  EXPECT_FALSE(*SameContent({*a}, {other})) << "without a fingerprint";
  a->fingerprint = "0";
  EXPECT_FALSE(*SameContent({*a}, {other}));
  EXPECT_TRUE(*SameContent({*a}, {*a}));
  other.json_lines = true;
  EXPECT_FALSE(*SameContent({*a}, {other}));
  PrepareSource earlier = *a;
  earlier.changed_ns = earlier.inode = -1;
  EXPECT_FALSE(SameFiles({earlier}, {earlier})) << "its time of change is not known";
  a->fingerprint = FingerprintOfFile(a->path)->ToString();
  EXPECT_TRUE(*SameContent({*a}, {earlier}));
  EXPECT_TRUE(absl::IsCancelled(SameContent({*a}, {earlier}, [] { return true; }).status()));
  EXPECT_EQ(DescribeSource("-", true)->num_bytes, -1);
  EXPECT_THAT(std::string(DescribeSource("missing.txt", false).status().message()),
              HasSubstr("missing.txt"));
}

// As a program may do that keeps times, such as `cp -p` and `rsync -t`.
TEST(PrepareRecordTest, OtherContentOfTheSameSizeAndTimeIsSeen) {
  const TempDirectory directory;
  const std::string path = directory / "a.txt";
  WriteFile(path, "the content");
  auto before = DescribeSource(path, false);
  ASSERT_TRUE(before.ok()) << before.status();
  before->fingerprint = FingerprintOfFile(path)->ToString();
  const auto time = std::filesystem::last_write_time(path);
  const auto after = [&] {
    std::filesystem::last_write_time(path, time);
    const auto source = DescribeSource(path, false);
    EXPECT_EQ(source->modified_ns, before->modified_ns);
    EXPECT_EQ(source->num_bytes, before->num_bytes);
    return *source;
  };
  // Its inode has another time once the clock goes on.
  do {
    WriteFile(path, "the CONTENT");
  } while (after().changed_ns == before->changed_ns);
  EXPECT_FALSE(*SameContent({*before}, {after()}));
  // Two files that are there at the same time have different inodes.
  WriteFile(directory / "b.txt", "the Content");
  std::filesystem::rename(directory / "b.txt", path);
  PrepareSource replaced = after();
  replaced.changed_ns = before->changed_ns;
  EXPECT_FALSE(SameFiles({*before}, {replaced}));
  EXPECT_FALSE(*SameContent({*before}, {replaced}));
}

}  // namespace
}  // namespace strake
