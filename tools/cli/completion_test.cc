#include "tools/cli/completion.h"

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

// Options of every kind, of a program that is called like //tools:data.
struct CompletedProgram {
  CompletedProgram() {
    options.Add("seq_len", &number, "tokens per sample");
    options.Add("schedule", &text, "its shape: any [of these]", {"constant", "linear"});
    options.Add("shuffle", &yes, "the run's order is drawn");
    options.Add("out", &text, "a folder");
    options.Add("prompt", &text, "text");
    options.Add("model", &text, "a preset or a path");
    options.Paths({"out", "model"});
    options.Suggest("model", {"gpt2", "llama-3.2"});
  }
  int64_t number = 1;
  std::string text;
  bool yes = true;
  OptionSet options{"data why RUN"};
};

class BashCompletionTest : public ::testing::Test {
 protected:
  BashCompletionTest() {
    testing::WriteFile(directory_ / "script", CompletionScript(program_.options, "bash"));
    testing::WriteFile(directory_ / "a file.txt", "");
    testing::WriteFile(directory_ / "all.txt", "");
  }

  // What bash offers for the last of the words, which it has split.
  std::vector<std::string> Complete(const std::vector<std::string>& words) const {
    const std::string command = absl::StrCat(
        "cd '", directory_.path(), "' && bash --norc -c 'source ./script; COMP_WORDS=(\"",
        absl::StrJoin(words, "\" \""), "\"); COMP_CWORD=", words.size() - 1,
        "; _strake_data; for reply in \"${COMPREPLY[@]}\"; do echo \"$reply\"; done' 2>&1");
    FILE* const pipe = popen(command.c_str(), "r");
    EXPECT_NE(pipe, nullptr);
    std::string out;
    std::array<char, 256> bytes;
    for (size_t n; (n = fread(bytes.data(), 1, bytes.size(), pipe)) > 0;) {
      out.append(bytes.data(), n);
    }
    EXPECT_EQ(pclose(pipe), 0) << out;
    return absl::StrSplit(out, '\n', absl::SkipEmpty());
  }

 private:
  CompletedProgram program_;
  const testing::TempDirectory directory_;
};

TEST_F(BashCompletionTest, CompletesNames) {
  EXPECT_THAT(Complete({"data", "--s"}), ElementsAre("--seq_len=", "--schedule=", "--shuffle"));
  EXPECT_THAT(Complete({"data", "--seq_len=8", "--sh"}), ElementsAre("--shuffle"));
  EXPECT_THAT(Complete({"data", "--h"}), ElementsAre("--help", "--help="));
  EXPECT_THAT(Complete({"data", "--v"}), ElementsAre("--version"));
  EXPECT_THAT(Complete({"data", "--x"}), IsEmpty());
  EXPECT_EQ(Complete({"data", ""}).size(), 9);
}

TEST_F(BashCompletionTest, CompletesValues) {
  // Bash splits at = by default: --schedule=, --schedule=l.
  EXPECT_THAT(Complete({"data", "--schedule", "="}), ElementsAre("constant", "linear"));
  EXPECT_THAT(Complete({"data", "--schedule", "=", "l"}), ElementsAre("linear"));
  EXPECT_THAT(Complete({"data", "--schedule", "l"}), ElementsAre("linear"));
  EXPECT_THAT(Complete({"data", "--shuffle", "="}), ElementsAre("true", "false"));
  EXPECT_THAT(Complete({"data", "--shuffle", "=", "t"}), ElementsAre("true"));
  EXPECT_THAT(Complete({"data", "--seq_len", "="}), IsEmpty());
  EXPECT_THAT(Complete({"data", "--no_such", "=", "l"}), IsEmpty());
  // Where it does not split, the reply stands for the whole word.
  EXPECT_THAT(Complete({"data", "--schedule=l"}), ElementsAre("--schedule=linear"));
}

TEST_F(BashCompletionTest, AValueAfterABlankIsOfOptionsThatTakeOne) {
  EXPECT_THAT(Complete({"data", "--prompt", "l"}), IsEmpty());
  EXPECT_THAT(Complete({"data", "--seq_len", ""}), IsEmpty());
  EXPECT_EQ(Complete({"data", "--shuffle", ""}).size(), 9) << "the names of the next option";
  EXPECT_EQ(Complete({"data", "--schedule", "=", "linear", ""}).size(), 9);
}

TEST_F(BashCompletionTest, CompletesFiles) {
  EXPECT_THAT(Complete({"data", "--out", "=", "a"}), UnorderedElementsAre("a file.txt", "all.txt"));
  EXPECT_THAT(Complete({"data", "--out", "al"}), ElementsAre("all.txt"));
  EXPECT_THAT(Complete({"data", "--out=al"}), ElementsAre("--out=all.txt"));
  EXPECT_THAT(Complete({"data", "--model", "=", "l"}), ElementsAre("llama-3.2"));
  EXPECT_THAT(Complete({"data", "--model", "=", "al"}), ElementsAre("all.txt"));
}

TEST(CompletionTest, ZshScriptDescribesEachOption) {
  const std::vector<std::string> lines =
      absl::StrSplit(CompletionScript(CompletedProgram().options, "zsh"), '\n');
  EXPECT_THAT(
      lines,
      ElementsAre("#compdef data", "_strake_data() {", "  _arguments \\",
                  "    '(- *)-h[print the options]' \\",
                  "    '(- *)--help=-[print the options, or those about a word]::word: ' \\",
                  "    '(- *)--version[print the version]' \\",
                  "    '--seq_len=[tokens per sample]:seq_len: ' \\",
                  "    '--schedule=[its shape\\: any (of these)]:schedule:(constant linear)' \\",
                  "    '--shuffle=-[the run'\\''s order is drawn]::shuffle:(true false)' \\",
                  "    '--out=[a folder]:out:_files' \\", "    '--prompt=[text]:prompt: ' \\",
                  "    '--model=[a preset or a path]:model:{_alternative "
                  "\"words\\:word\\:(gpt2 llama-3.2)\" \"files\\:file\\:_files\"}'",
                  "}", "compdef _strake_data data", ""));
}

TEST(CompletionDeathTest, OtherShellsAreAProgrammersError) {
  EXPECT_DEATH(CompletionScript(CompletedProgram().options, "fish"), "unknown shell fish");
}

}  // namespace
}  // namespace strake
