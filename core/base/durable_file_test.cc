#include "core/base/durable_file.h"

#include <filesystem>

#include "core/testing/temp_directory.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ReadFile;
using testing::TempDirectory;
using testing::WriteFile;

TEST(DurableFileTest, MakesAndReplaces) {
  const TempDirectory dir;
  const std::string path = dir / "a.json";
  ASSERT_TRUE(WriteFileDurably(path, "first, and longer").ok());
  EXPECT_EQ(ReadFile(path), "first, and longer");
  ASSERT_TRUE(WriteFileDurably(path, absl::string_view("two\0", 4)).ok());
  EXPECT_EQ(ReadFile(path), std::string("two\0", 4));
  ASSERT_TRUE(WriteFileDurably(path, "").ok());
  EXPECT_EQ(ReadFile(path), "");
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST(DurableFileTest, ErrorsNameThePathAndTheReason) {
  const TempDirectory dir;
  WriteFile(dir / "file", "x");
  const absl::Status below_a_file = WriteFileDurably(dir / "file/a", "text");
  EXPECT_EQ(below_a_file.message(), "cannot create " + (dir / "file/a.tmp") + ": Not a directory");
  const absl::Status folder = MakeDirectoriesDurably(dir / "file/a/b");
  EXPECT_EQ(folder.message(), "cannot create the folder " + (dir / "file") + ": File exists");
  EXPECT_FALSE(SyncPath(dir / "none").ok());
  EXPECT_FALSE(SyncTree(dir / "none").ok());
}

TEST(DurableFileTest, AFailedReplacementLeavesNothingBehind) {
  const TempDirectory dir;
  std::filesystem::create_directory(dir / "folder");
  const absl::Status status = WriteFileDurably(dir / "folder", "text");
  EXPECT_EQ(status.message(), "cannot replace " + (dir / "folder") + ": Is a directory");
  EXPECT_FALSE(std::filesystem::exists(dir / "folder.tmp"));
}

TEST(DurableFileTest, MakesFoldersInFolders) {
  const TempDirectory dir;
  ASSERT_TRUE(MakeDirectoriesDurably(dir / "a/b/c/").ok());
  EXPECT_TRUE(std::filesystem::is_directory(dir / "a/b/c"));
  ASSERT_TRUE(MakeDirectoriesDurably(dir / "a/b/c").ok());
  WriteFile(dir / "a/b/file", "x");
  EXPECT_TRUE(SyncTree(dir / "a").ok());
}

TEST(DurableFileTest, ReplacesALinkAndNotItsTarget) {
  const TempDirectory dir;
  WriteFile(dir / "mine", "mine");
  for (const char* name : {"file", "file.tmp"}) {
    std::filesystem::create_symlink("mine", dir / name);
    ASSERT_TRUE(WriteFileDurably(dir / "file", name).ok());
    EXPECT_EQ(ReadFile(dir / "file"), name);
    EXPECT_EQ(ReadFile(dir / "mine"), "mine");
  }
}

}  // namespace
}  // namespace strake
