#include "core/base/path_kind.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(PathKindTest, TellsWhatThereIs) {
  const testing::TempDirectory folder;
  testing::WriteFile(folder / "file", "x");
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("file", folder / "link");
  EXPECT_EQ(*PathKindOf(folder / "file"), PathKind::kFile);
  EXPECT_EQ(*PathKindOf(folder / "link"), PathKind::kFile);
  EXPECT_EQ(*PathKindOf(folder / "."), PathKind::kDirectory);
  EXPECT_EQ(*PathKindOf(folder / "pipe"), PathKind::kOther);
  EXPECT_EQ(*PathKindOf("/dev/null"), PathKind::kOther);
  EXPECT_EQ(*PathKindOf(folder / "none"), PathKind::kNothing);
  EXPECT_EQ(*PathKindOf(folder / "file/below"), PathKind::kNothing);
}

TEST(PathKindTest, WhatCannotBeKnownIsAnError) {
  const testing::TempDirectory folder;
  std::filesystem::create_symlink("/away/disk", folder / "link");
  EXPECT_THAT(std::string(PathKindOf(folder / "link").status().message()),
              AllOf(HasSubstr(folder / "link"), HasSubstr("symbolic link to /away/disk")));
  std::filesystem::create_symlink("loop", folder / "loop");
  EXPECT_THAT(std::string(PathKindOf(folder / "loop").status().message()),
              HasSubstr("cannot look at " + (folder / "loop")));
  EXPECT_FALSE(PathKindOf("/" + std::string(5000, 'x')).ok());
}

}  // namespace
}  // namespace strake
