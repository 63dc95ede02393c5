#include "core/base/read_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

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

}  // namespace
}  // namespace strake
