#include "core/base/read_file.h"

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

}  // namespace
}  // namespace strake
