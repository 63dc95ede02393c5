#include "tools/generating/prompts.h"

#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(PromptsTest, ALineOfTextIsAPrompt) {
  const auto prompts = ParsePrompts("Once upon\r\n\n  a time \nlast", "a.txt");
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  EXPECT_THAT(*prompts, ElementsAre("Once upon", "  a time ", "last"));
}

TEST(PromptsTest, JsonLinesMayHaveAnything) {
  const auto prompts = ParsePrompts(
      "{\"prompt\": \"two\\nlines\"}\n\n{\"id\": 3, \"prompt\": \"\"}\n", "dir.txt/a.jsonl");
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  EXPECT_THAT(*prompts, ElementsAre("two\nlines", ""));
}

TEST(PromptsTest, BadLinesAreNamed) {
  const auto error = [](const char* content) {
    const auto prompts = ParsePrompts(content, "a.ndjson");
    EXPECT_EQ(prompts.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(prompts.status().message());
  };
  EXPECT_THAT(error("{\"prompt\": \"x\"}\n{\"prompt\": \"x}"),
              HasSubstr("a.ndjson: line 2: bad JSON: parse error at column 15: "));
  EXPECT_THAT(error("\n[1]"), HasSubstr("a.ndjson: line 2: no object"));
  EXPECT_THAT(error("{\"text\": \"x\"}"), HasSubstr("line 1: no member \"prompt\""));
  EXPECT_THAT(error("{\"prompt\": 7}"), HasSubstr("line 1: \"prompt\" is no text"));
  EXPECT_THAT(error("\n\n"), HasSubstr("a.ndjson holds no prompt"));
}

TEST(PromptsTest, FilesThatAreNoTextAreNamed) {
  const testing::TempDirectory directory;
  testing::WriteFile(directory / "a.txt", "\x93NUMPY\x01");
  const absl::Status status = ReadPrompts(directory / "a.txt").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("a.txt"));
  testing::WriteFile(directory / "a.txt", "x\n");
  EXPECT_TRUE(ReadPrompts(directory / "a.txt").ok());
  EXPECT_THAT(std::string(ReadPrompts(directory / "none.txt").status().message()),
              HasSubstr("none.txt"));
}

}  // namespace
}  // namespace strake
