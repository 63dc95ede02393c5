#include "core/base/read_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <vector>

#include "core/base/lines_from_end.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(ReadFileTest, AllBytes) {
  const std::string path = ::testing::TempDir() + "/file";
  // More bytes than a buffer holds, of every value.
  std::string bytes;
  for (int i = 0; i < 200000; ++i) bytes += static_cast<char>(i * 7);
  for (const std::string& text : {bytes, std::string()}) {
    std::ofstream(path, std::ios::binary) << text;
    const auto read = ReadFile(path);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_TRUE(*read == text);
  }
}

TEST(ReadFileTest, ErrorsNamePathAndReason) {
  const absl::Status missing = ReadFile("/no/such").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()),
              AllOf(HasSubstr("/no/such: cannot be read"), HasSubstr("No such file")));
  EXPECT_THAT(std::string(ReadFile("/").status().message()), HasSubstr("directory"));
}

TEST(ReadFileTest, WhatMayNeverEndIsAnError) {
  const std::string pipe = ::testing::TempDir() + "/pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  for (const std::string& path : {pipe, std::string("/dev/zero")}) {
    EXPECT_THAT(std::string(ReadFile(path).status().message()),
                AllOf(HasSubstr(path), HasSubstr("not a regular file")));
  }
}

TEST(ReadFileTest, TooLargeIsAnError) {
  const std::string path = ::testing::TempDir() + "/sparse";
  std::ofstream(path) << "0123456789";
  EXPECT_EQ(*ReadFile(path, 10), "0123456789");
  EXPECT_THAT(std::string(ReadFile(path, 9).status().message()), HasSubstr("more than 9 B"));
  ASSERT_EQ(truncate(path.c_str(), int64_t{1} << 40), 0);
  EXPECT_EQ(ReadFile(path).status().code(), absl::StatusCode::kResourceExhausted);
  // The system gives these no size.
  EXPECT_TRUE(ReadFile("/proc/self/status").ok());
  EXPECT_FALSE(ReadFile("/proc/self/status", 10).ok());
}

std::vector<std::string> LinesOf(const std::string& text) {
  const std::string path = ::testing::TempDir() + "/lines";
  std::ofstream(path, std::ios::binary) << text;
  auto lines = LinesFromEnd::Open(path, kMaxTextBytes);
  if (!lines.ok()) return {lines.status().ToString()};
  std::vector<std::string> found;
  absl::string_view line;
  while (lines->Next(&line)) found.emplace_back(line);
  EXPECT_TRUE(lines->status().ok()) << lines->status();
  return found;
}

TEST(LinesFromEndTest, TheLastLineComesFirst) {
  using Lines = std::vector<std::string>;
  EXPECT_EQ(LinesOf(""), Lines());
  EXPECT_EQ(LinesOf("half"), Lines());
  EXPECT_EQ(LinesOf("\n"), Lines({""}));
  EXPECT_EQ(LinesOf("a\n\nb\n"), Lines({"b", "", "a"}));
  EXPECT_EQ(LinesOf("a\nb\nhalf"), Lines({"b", "a"}));
}

TEST(LinesFromEndTest, LinesMayBeLongerThanABlock) {
  std::vector<std::string> lines;
  std::string text;
  // Lengths up to a megabyte put ends on both sides of the borders of blocks.
  for (int i = 0; i < 600; ++i) {
    lines.emplace_back(i % 97 == 5 ? 1000000 + i : i * 131 % 8209, static_cast<char>('a' + i % 26));
    text += lines.back() + "\n";
  }
  std::reverse(lines.begin(), lines.end());
  EXPECT_TRUE(LinesOf(text) == lines);
  EXPECT_TRUE(LinesOf(text + std::string(1 << 20, 'x')) == lines);
}

TEST(LinesFromEndTest, ErrorsAreReadFiles) {
  EXPECT_EQ(LinesFromEnd::Open("/no/such", 10).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(LinesFromEnd::Open("/", kMaxTextBytes).status(), ReadFile("/").status());
  const std::string path = ::testing::TempDir() + "/shorter";
  std::ofstream(path) << std::string(1 << 20, 'x') << "\nlast\n";
  EXPECT_EQ(LinesFromEnd::Open(path, 10).status().code(), absl::StatusCode::kResourceExhausted);
  auto lines = LinesFromEnd::Open(path, kMaxTextBytes);
  ASSERT_TRUE(lines.ok()) << lines.status();
  absl::string_view line;
  ASSERT_TRUE(lines->Next(&line));
  EXPECT_EQ(line, "last");
  ASSERT_EQ(truncate(path.c_str(), 3), 0);
  EXPECT_FALSE(lines->Next(&line));
  EXPECT_EQ(lines->status().message(), path + ": became shorter while it was read");
}

}  // namespace
}  // namespace strake
