// //tools:tokenizer as a user runs it.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/run_program.h"
#include "tests/tiny_run.h"

namespace strake {
namespace {

using testing::Flags;
using testing::ProgramResult;
using testing::ReadFile;
using testing::ReadTree;
using testing::WriteFile;
using testing::operator+;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

std::string SomeText() {
  std::string text;
  for (int i = 0; i < 3000; ++i) {
    absl::StrAppend(&text, "The ", i % 17, " lower houses' dōgs don't walk, ", i, ".\n");
  }
  return text;
}

class TokenizerProgramTest : public ::testing::Test {
 protected:
  void SetUp() override { WriteFile(directory_ / "text.txt", SomeText()); }

  ProgramResult Run(const Flags& flags, const std::string& input = "") const {
    WriteFile(directory_ / "stdin", input);
    const std::string command = absl::StrCat("exec \"$0\" \"$@\" <'", directory_ / "stdin", "'");
    return testing::RunProgram("tools/tokenizer", flags,
                               {.directory = directory_.path(), .launcher = {"sh", "-c", command}});
  }
  ProgramResult Train(const Flags& flags) const {
    return Run(Flags{"--mode=train", "--train_data=text.txt", "--vocab_size=400", "--out=tok"} +
               flags);
  }
  // What stdout of a call without an error has.
  std::string Output(const Flags& flags, const std::string& input) const {
    const ProgramResult result = Run(flags, input);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return result.out;
  }
  void ExpectError(const Flags& flags, const std::vector<std::string>& parts,
                   const std::string& input = "") const {
    SCOPED_TRACE(flags.back());
    const ProgramResult result = Run(flags, input);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, MatchesRegex("error: [^\n]+\n"));
    for (const std::string& part : parts) EXPECT_THAT(result.err, HasSubstr(part));
  }

  const testing::TempDirectory directory_;
};

TEST_F(TokenizerProgramTest, TrainsThenEncodesAndDecodes) {
  const ProgramResult trained = Train({"--threads=1"});
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("different words"));
  EXPECT_THAT(trained.out, HasSubstr("vocabulary: 400 tokens, 143 merges, in tok\n"));

  const std::string text = SomeText() + "<|endoftext|>日本 \xFF\xC3 end";
  const std::string ids = Output({"--tokenizer=tok", "--threads=1"}, text);
  EXPECT_EQ(ids, Output({"--mode=encode", "--tokenizer=tok/tokenizer.json", "--threads=3"}, text));
  EXPECT_THAT(ids, HasSubstr("\n0\n"));
  const size_t num_ids = std::count(ids.begin(), ids.end(), '\n');
  EXPECT_LT(num_ids, text.size() / 2) << "words were not merged";
  EXPECT_TRUE(Output({"--mode=decode", "--tokenizer=tok"}, ids) == text);
}

TEST_F(TokenizerProgramTest, ThreadsAndFilesDoNotChangeTheVocabulary) {
  ASSERT_EQ(Train({"--threads=1"}).exit_code, 0);
  const std::string json = ReadFile(directory_ / "tok/tokenizer.json");
  ASSERT_EQ(Train({"--threads=4", "--out=tok4"}).exit_code, 0);
  EXPECT_EQ(ReadFile(directory_ / "tok4/tokenizer.json"), json);
  EXPECT_EQ(ReadFile(directory_ / "tok4/tokenizer_config.json"),
            ReadFile(directory_ / "tok/tokenizer_config.json"));

  std::string lines;
  for (const absl::string_view line : absl::StrSplit(SomeText(), '\n')) {
    if (!line.empty()) absl::StrAppend(&lines, "{\"words\": \"", line, "\\n\"}\n");
  }
  WriteFile(directory_ / "text.jsonl", lines);
  const Flags from_lines = {"--train_data=text.jsonl", "--text_field=words", "--out=tok_lines"};
  const ProgramResult result = Train(from_lines);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(ReadFile(directory_ / "tok_lines/tokenizer.json"), json);
}

TEST_F(TokenizerProgramTest, PatternAndSpecialTokensAreTheUsers) {
  const ProgramResult result = Train({"--tokenizer_pattern=[a-z]+", "--special_tokens=<bos>,<eos>",
                                      "--vocab_size=5000", "--min_frequency=500"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("note: the text has no more pairs to merge"));
  EXPECT_THAT(ReadFile(directory_ / "tok/tokenizer.json"), HasSubstr(R"({"Regex":"[a-z]+"})"));
  EXPECT_THAT(ReadFile(directory_ / "tok/tokenizer_config.json"),
              HasSubstr(R"("eos_token": "<bos>")"));
  EXPECT_THAT(Output({"--tokenizer=tok"}, "<eos>lower<bos>"), MatchesRegex("1\n[0-9]+\n0\n"));
}

TEST_F(TokenizerProgramTest, ErrorsNameFlagAndValueAndWriteNothing) {
  ASSERT_EQ(Train({}).exit_code, 0);
  WriteFile(directory_ / "stdin", "");
  const auto before = ReadTree(directory_.path());
  ExpectError({"--mode=translate"}, {"--mode", "translate", "encode, decode, train"});
  ExpectError({"--mode=encode"}, {"--tokenizer is missing"});
  ExpectError({"--tokenizer=nowhere"}, {"--tokenizer: ", "nowhere"});
  ExpectError({"--tokenizer=text.txt"}, {"--tokenizer: ", "text.txt"});
  ExpectError({"--tokenizer=tok", "--vocab_size=300"}, {"--mode=encode", "--vocab_size"});
  ExpectError({"--mode=decode", "--tokenizer=tok"}, {"line 2: 400 is no token"}, "7\n400\n");
  WriteFile(directory_ / "stdin", "");
  const Flags train = {"--mode=train", "--train_data=text.txt", "--vocab_size=400", "--out=new"};
  ExpectError({"--mode=train", "--vocab_size=400", "--out=new"}, {"--train_data is missing"});
  ExpectError({"--mode=train", "--train_data=text.txt", "--out=new"}, {"--vocab_size is missing"});
  ExpectError({"--mode=train", "--train_data=text.txt", "--vocab_size=400"}, {"--out is missing"});
  ExpectError(train + Flags{"--tokenizer=tok"}, {"--mode=train", "--tokenizer"});
  ExpectError(train + Flags{"--vocab_size=255"}, {"--vocab_size=255"});
  ExpectError(train + Flags{"--vocab_size=256"}, {"--vocab_size", "256 bytes", "1 special"});
  ExpectError(train + Flags{"--special_tokens=<a>,<a>"}, {"--special_tokens", "<a>", "twice"});
  ExpectError(train + Flags{"--train_data=missing.txt"}, {"--train_data: ", "missing.txt"});
  ExpectError(train + Flags{"--tokenizer_pattern=("}, {"--tokenizer_pattern: "});
  ExpectError(train + Flags{"--tokenizer_pattern=x{1,3}+"}, {"--tokenizer_pattern: ", "x{1,3}+"});
  ExpectError(train + Flags{"--out=tok"}, {"--out=tok", "holds a tokenizer already"});
  EXPECT_TRUE(ReadTree(directory_.path()) == before);
}

TEST_F(TokenizerProgramTest, AFullDiskIsNamed) {
  ASSERT_EQ(Train({}).exit_code, 0);
  const auto error = [&](const Flags& flags) {
    const std::string command =
        absl::StrCat("exec \"$0\" \"$@\" <'", directory_ / "text.txt", "' >/dev/full");
    const ProgramResult result =
        testing::RunProgram("tools/tokenizer", flags,
                            {.directory = directory_.path(), .launcher = {"sh", "-c", command}});
    EXPECT_EQ(result.exit_code, 1);
    return result.err;
  };
  EXPECT_EQ(error({"--tokenizer=tok", "--threads=2"}),
            "error: cannot write to standard output: No space left on device\n");
  EXPECT_EQ(error({"--help"}), "error: cannot write to stdout: No space left on device\n");
}

}  // namespace
}  // namespace strake
