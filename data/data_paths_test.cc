#include "data/data_paths.h"

#include <filesystem>
#include <string>
#include <vector>

#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TempDirectory;

class ExpandPathsTest : public ::testing::Test {
 protected:
  ExpandPathsTest() {
    for (const char* folder : {"a", "a/b", "a/b/c", "a/.git"}) {
      std::filesystem::create_directory(root_ / folder);
    }
    for (const char* name :
         {"b1.txt", "b0.txt", "B2.txt", "a.txt", "x[0].txt", "one,two.txt", "a/d.txt", "a/e.jsonl",
          "a/cover.png", "a/I.TXT", "a/tokens.bin", "a/tokens.documents", "a/.hidden.txt",
          "a/.git/log.txt", "a/b/f.txt.gz", "a/b/c/g.jsonl.zst", "a/b/c/h.txt"}) {
      testing::WriteFile(root_ / name, "text");
    }
    std::filesystem::create_directory_symlink(root_ / "a", root_ / "a/b/loop");
  }

  // Files without the folder that they are in.
  std::vector<std::string> Expand(const std::string& paths) {
    auto files = ExpandPaths(paths);
    EXPECT_TRUE(files.ok()) << files.status();
    if (!files.ok()) return {};
    for (std::string& file : *files) {
      file = std::filesystem::relative(file, root_.path()).lexically_normal().string();
    }
    return *files;
  }

  const TempDirectory root_;
};

TEST_F(ExpandPathsTest, KeepsListOrderAndSortsMatches) {
  EXPECT_THAT(Expand(root_ / "b*.txt," + root_ / "a.txt," + root_ / "[Bb][12].txt"),
              ElementsAre("b0.txt", "b1.txt", "a.txt", "B2.txt", "b1.txt"));
  EXPECT_THAT(Expand(root_ / "x[0].txt"), ElementsAre("x[0].txt"));
}

TEST_F(ExpandPathsTest, TwoStarsAreAnyNumberOfFolders) {
  EXPECT_THAT(Expand(root_ / "a/**/*.txt"), ElementsAre("a/b/c/h.txt", "a/d.txt"));
  EXPECT_THAT(Expand(root_ / "**/*.jsonl*"), ElementsAre("a/b/c/g.jsonl.zst", "a/e.jsonl"));
  EXPECT_THAT(Expand(root_ / "**/c/h.txt"), ElementsAre("a/b/c/h.txt"));
  EXPECT_THAT(Expand(root_ / "a/b/**"),
              ElementsAre("a/b/c/g.jsonl.zst", "a/b/c/h.txt", "a/b/f.txt.gz"));
}

TEST_F(ExpandPathsTest, GlobsGiveFilesAlone) {
  EXPECT_THAT(Expand(root_ / "a/[bde]*"), ElementsAre("a/d.txt", "a/e.jsonl"));
  EXPECT_THAT(Expand(root_ / "a/**/[bcd]*"), ElementsAre("a/cover.png", "a/d.txt"));
  EXPECT_THAT(ExpandPaths(root_ / "a/b*").status().message(), HasSubstr("no file matches it"));
}

TEST_F(ExpandPathsTest, AFolderIsItsTextAndTokens) {
  EXPECT_THAT(Expand(root_ / "a"),
              ElementsAre("a/I.TXT", "a/b/c/g.jsonl.zst", "a/b/c/h.txt", "a/b/f.txt.gz", "a/d.txt",
                          "a/e.jsonl", "a/tokens.bin"));
  std::filesystem::create_directory(root_ / "pictures");
  testing::WriteFile(root_ / "pictures/x.png", "png");
  EXPECT_THAT(ExpandPaths(root_ / "pictures").status().message(),
              AllOf(HasSubstr("pictures: is a directory without"), HasSubstr("*.jsonl")));
}

TEST_F(ExpandPathsTest, NamesWithCommas) {
  EXPECT_THAT(Expand(root_ / "one,two.txt"), ElementsAre("one,two.txt"));
  EXPECT_THAT(Expand(root_ / "a.txt," + root_ / "one\\,two.txt"),
              ElementsAre("a.txt", "one,two.txt"));
  EXPECT_THAT(Expand(root_ / "one\\,*.txt"), ElementsAre("one,two.txt"));
}

TEST_F(ExpandPathsTest, StandardInputIsItself) {
  const auto files = ExpandPaths("-");
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_THAT(*files, ElementsAre("-"));
}

TEST_F(ExpandPathsTest, AnEntryWithoutMatchIsNamed) {
  EXPECT_THAT(ExpandPaths(root_ / "a.txt," + root_ / "none*.txt").status().message(),
              AllOf(HasSubstr("data file " + root_ / "none*.txt"), HasSubstr("matches")));
  EXPECT_THAT(ExpandPaths(root_ / "none/**/*.txt").status().message(),
              HasSubstr("none/**/*.txt: no such file"));
  EXPECT_THAT(ExpandPaths(root_ / "none.txt").status().message(), HasSubstr("none.txt"));
  EXPECT_THAT(ExpandPaths(root_ / "a.txt,").status().message(), HasSubstr("an entry is empty"));
  EXPECT_FALSE(ExpandPaths("").ok());
}

}  // namespace
}  // namespace strake
