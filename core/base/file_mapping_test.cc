#include "core/base/file_mapping.h"

#include <fcntl.h>

#include <optional>
#include <string>
#include <utility>

#include "core/testing/temp_directory.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

TEST(FileMappingTest, AnAddressTellsItsFile) {
  const testing::TempDirectory folder;
  testing::WriteFile(folder / "a", "0123456789");
  const FileDescriptor file(open((folder / "a").c_str(), O_RDONLY | O_CLOEXEC));
  auto mapping = FileMapping::Map(folder / "a", file, 8);
  ASSERT_TRUE(mapping.ok()) << mapping.status();
  const char* const begin = mapping->bytes().data();
  EXPECT_EQ(mapping->bytes(), "01234567");
  std::optional<FileMapping> moved = *std::move(mapping);
  EXPECT_EQ(moved->bytes().data(), begin);
  ASSERT_NE(PathOfMapping(begin), nullptr);
  EXPECT_EQ(PathOfMapping(begin), folder / "a");
  EXPECT_EQ(PathOfMapping(begin + 7), folder / "a");
  EXPECT_EQ(PathOfMapping(begin + 8), nullptr);
  EXPECT_EQ(PathOfMapping(&folder), nullptr);
  moved.reset();
  EXPECT_EQ(PathOfMapping(begin), nullptr);
  EXPECT_EQ(FileMapping().bytes(), "");
}

TEST(FileMappingTest, ErrorsHaveTheReason) {
  const FileDescriptor none(-1);
  EXPECT_EQ(FileMapping::Map("a", none, 8).status().message(), "mmap: Bad file descriptor");
}

}  // namespace
}  // namespace strake
