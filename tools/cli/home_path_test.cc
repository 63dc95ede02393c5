#include "tools/cli/home_path.h"

#include <cstdlib>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tools/cli/options.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Sets HOME for a test; nullptr: there is none.
class HomePathTest : public ::testing::Test {
 protected:
  HomePathTest() { SetHome("/home/me"); }
  ~HomePathTest() override { SetHome(had_home_ ? old_home_.c_str() : nullptr); }

  static void SetHome(const char* home) {
    if (home == nullptr) unsetenv("HOME");
    if (home != nullptr) setenv("HOME", home, 1);
  }
  static std::string Path(const std::string& path) { return *ExpandHome(path); }
  static std::string List(const std::string& paths) { return *ExpandHomeInList(paths); }

 private:
  const bool had_home_ = std::getenv("HOME") != nullptr;
  const std::string old_home_ = had_home_ ? std::getenv("HOME") : "";
};

TEST_F(HomePathTest, TildeAtTheBeginningIsTheHomeDirectory) {
  EXPECT_EQ(Path("~"), "/home/me");
  EXPECT_EQ(Path("~/"), "/home/me/");
  EXPECT_EQ(Path("~/runs/a"), "/home/me/runs/a");
  for (const char* path : {"", "a", "a~", "./~", "/~/a", "~me/a", "a,~/b", "x:~/b", " ~/a"}) {
    EXPECT_EQ(Path(path), path);
  }
}

TEST_F(HomePathTest, ListsHaveOneInEachEntry) {
  EXPECT_EQ(List("~/a.txt"), "/home/me/a.txt");
  EXPECT_EQ(List("~/a,b,~/c,~"), "/home/me/a,b,/home/me/c,/home/me");
  EXPECT_EQ(List("books:~/a/**:0.7,code:~/c:0.3"), "books:/home/me/a/**:0.7,code:/home/me/c:0.3");
  EXPECT_EQ(List("a-1_b:~:2,~:3"), "a-1_b:/home/me:2,/home/me:3");
  for (const char* paths : {"", ",", "a,,b", "a\\,~/b", "a/b:~/c", "./~,~me", "a~,b~/c", "x:a~"}) {
    EXPECT_EQ(List(paths), paths);
  }
}

TEST_F(HomePathTest, CommasOfHomeAreOfANameInLists) {
  SetHome("/home/a,b");
  EXPECT_EQ(Path("~/c"), "/home/a,b/c");
  EXPECT_EQ(List("~/c,d"), "/home/a\\,b/c,d");
}

TEST_F(HomePathTest, WithoutHomeIsAnErrorWhereItIsNeeded) {
  for (const char* home : {static_cast<const char*>(nullptr), ""}) {
    SetHome(home);
    EXPECT_EQ(Path("a/~"), "a/~");
    EXPECT_EQ(List("a,./~"), "a,./~");
    EXPECT_THAT(std::string(ExpandHome("~/a").status().message()), HasSubstr("HOME is not set"));
    EXPECT_THAT(std::string(ExpandHomeInList("a,~/a").status().message()),
                HasSubstr("HOME is not set"));
  }
}

struct PathProgram {
  PathProgram() {
    options.Add("out", &out, "a path");
    options.Add("data", &data, "paths");
    options.Add("prompt", &prompt, "text");
    options.Paths({"out"});
    options.PathLists({"data"});
  }
  std::string Error(const char* flag) {
    const char* const flags[] = {"program", flag};
    return std::string(options.ParseFlags(2, flags).message());
  }
  std::string out, data, prompt;
  OptionSet options{"program"};
};

TEST_F(HomePathTest, OptionsThatArePathsHaveIt) {
  PathProgram p;
  EXPECT_EQ(p.Error("--out=~/runs"), "");
  EXPECT_EQ(p.Error("--data=~/a,b:~/c"), "");
  EXPECT_EQ(p.Error("--prompt=~/a"), "");
  EXPECT_EQ(p.out, "/home/me/runs");
  EXPECT_EQ(p.data, "/home/me/a,b:/home/me/c");
  EXPECT_EQ(p.prompt, "~/a");
  PathProgram q;
  ASSERT_TRUE(q.options.ParseJson(R"({"out": "~/j", "prompt": "~"})", "c.json").ok());
  EXPECT_EQ(q.out, "/home/me/j");
  EXPECT_EQ(q.prompt, "~");
  EXPECT_EQ(q.options.ToJson()["out"], "/home/me/j") << "as a run's record has it";
}

TEST_F(HomePathTest, ErrorsNameTheFlagOrTheKey) {
  PathProgram p;
  SetHome(nullptr);
  EXPECT_THAT(p.Error("--out=~/a"), StartsWith("--out=~/a: ~ is the home directory, and "));
  EXPECT_THAT(std::string(p.options.ParseJson(R"({"data": "~"})", "c.json").message()),
              AllOf(StartsWith("c.json: \"data\" is \"~\", but ~ is"), HasSubstr("HOME")));
  EXPECT_EQ(p.out, "");
  SetHome("/home/\xff");
  EXPECT_THAT(p.Error("--out=~/a"), HasSubstr("must be text"));
}

}  // namespace
}  // namespace strake
