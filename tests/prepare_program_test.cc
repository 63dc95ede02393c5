// //tools:prepare as a user runs it: what it writes and says, and how it ends.
#include <csignal>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/text/compress.h"
#include "data/tokenizer/formats/tokenizer_json_writer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tiny_run.h"

namespace strake {
namespace {

namespace fs = std::filesystem;
using testing::Flags;
using testing::Gzip;
using testing::ProgramOptions;
using testing::ProgramResult;
using testing::ReadFile;
using testing::ReadTree;
using testing::TempDirectory;
using testing::WriteFile;
using testing::Zstd;
using testing::operator+;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;

class PrepareProgramTest : public ::testing::Test {
 protected:
  PrepareProgramTest() {
    fs::create_directories(directory_ / "tok");
    for (const auto& [name, content] : ByteTokenizerFiles()) {
      WriteFile(directory_ / ("tok/" + name), content);
    }
    WriteFile(directory_ / "a.txt", "the first");
  }

  ProgramOptions Here() const { return {.directory = directory_.path()}; }
  // --tokenizer=tok --out=out, unless `flags` say otherwise.
  ProgramResult Prepare(const Flags& flags) const { return Prepare(flags, Here()); }
  ProgramResult Prepare(const Flags& flags, const ProgramOptions& options) const {
    return testing::RunProgram("tools/prepare", Flags{"--tokenizer=tok", "--out=out"} + flags,
                               options);
  }
  void ExpectError(const Flags& flags, const std::string& part) const {
    const auto before = ReadTree(directory_.path());
    const ProgramResult result = Prepare(flags);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, AllOf(MatchesRegex("error: [^\n]+\n"), HasSubstr(part)));
    EXPECT_TRUE(ReadTree(directory_.path()) == before) << flags[0];
  }
  // The bytes of the tokens of a model of bytes, which are those of the text.
  std::string Tokens(const std::string& out) const {
    const std::string file = ReadFile(directory_ / (out + "/tokens-00000.bin"));
    std::string text;
    for (size_t i = 1024; i < file.size(); i += 2) text += file[i];
    return text;
  }

  const TempDirectory directory_;
};

TEST_F(PrepareProgramTest, FilesFoldersAndGlobs) {
  fs::create_directories(directory_ / "books/old");
  WriteFile(directory_ / "books/b,1.txt", "comma");
  WriteFile(directory_ / "books/old/c.jsonl.gz",
            Gzip("{\"body\": \"json\"}\n{\"body\": \"lines\"}\n"));
  WriteFile(directory_ / "books/old/d.md.zst", Zstd("markdown"));
  WriteFile(directory_ / "books/image.png", "\x89PNG\r\n\x1a\n");
  const ProgramResult result =
      Prepare({"--data=a.txt,books/b\\,1.txt,books/**/*.jsonl.gz,books/old", "--text_field=body",
               "--end_of_text=!"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(Tokens("out"), "the first!comma!json!lines!json!lines!markdown!");
  EXPECT_THAT(result.out, HasSubstr("out: 7 documents, 47 tokens in 1 file, 0.851 bytes of text "
                                    "per token; "));
  EXPECT_EQ(result.err, "");
  EXPECT_TRUE(fs::exists(directory_ / "out/tokens-00000.documents"));
  EXPECT_FALSE(fs::exists(directory_ / "out.unfinished"));

  const ProgramResult folder = Prepare({"--data=books", "--text_field=body", "--out=folder"});
  EXPECT_EQ(folder.exit_code, 0) << folder.err;
  EXPECT_EQ(Tokens("folder"), "commajsonlinesmarkdown");
  EXPECT_THAT(folder.out, HasSubstr("note: the tokenizer does not say which token ends a text"));
  const ProgramResult quiet =
      Prepare({"--data=books", "--text_field=body", "--out=quiet", "--quiet"});
  EXPECT_EQ(quiet.exit_code, 0) << quiet.err;
  EXPECT_THAT(quiet.out, ::testing::StartsWith("quiet: "));
  EXPECT_THAT(quiet.out, ::testing::Not(HasSubstr("note: ")));
}

TEST_F(PrepareProgramTest, StandardInput) {
  WriteFile(directory_ / "in.jsonl", "{\"text\": \"one\"}\n");
  ProgramOptions options = Here();
  options.launcher = {"sh", "-c", "exec \"$0\" \"$@\" <" + (directory_ / "in.jsonl")};
  EXPECT_EQ(Prepare({"--data=-", "--format=jsonl", "--end_of_text=none"}, options).exit_code, 0);
  EXPECT_EQ(Tokens("out"), "one");
  EXPECT_EQ(Prepare({"--data=-", "--out=text"}, options).exit_code, 0);
  EXPECT_EQ(Tokens("text"), "{\"text\": \"one\"}\n");
}

TEST_F(PrepareProgramTest, ReusesAndCounts) {
  WriteFile(directory_ / "b.jsonl", "{\"text\": \"one\"}\n{\"text\": 2}\n{\"text\": \"\"}\n");
  const Flags flags = {"--data=b.jsonl", "--skip_bad_lines", "--end_of_text=none"};
  const std::string left_out =
      "left out: 1 bad line, 1 empty document; the first bad line: b.jsonl: line 2, column 10: "
      "member \"text\" is a number, not a string\n";
  EXPECT_THAT(Prepare(flags).out, AllOf(HasSubstr("out: 1 document, 3 tokens"),
                                        HasSubstr(" MB/s\n"), HasSubstr(left_out)));
  const auto tree = ReadTree(directory_.path());
  EXPECT_THAT(Prepare(flags).out,
              AllOf(HasSubstr("; it was there already\n"), HasSubstr(left_out)));
  EXPECT_TRUE(ReadTree(directory_.path()) == tree);
}

TEST_F(PrepareProgramTest, ConversationsNeedAFormat) {
  const std::string user = R"({"role": "user", "content": "Hi"})";
  const std::string answer = R"({"role": "assistant", "content": "Hello"})";
  WriteFile(directory_ / "chats.jsonl", "{\"messages\": [" + user + ", " + answer + "]}\n");
  ExpectError({"--data=chats.jsonl"},
              "--chat_format: chats.jsonl holds messages, and tok: there is "
              "no chat template");
  ExpectError({"--data=chats.jsonl", "--chat_format=chatty"}, "there are chatml, qwen2");
  ExpectError({"--data=chats.jsonl", "--chat_format=chatml"}, "no added token \"<|im_end|>\"");
  ExpectError({"--data=chats.jsonl,a.txt", "--chat_format=chatml"},
              "--data: chats.jsonl holds conversations, and a.txt holds other text");
  EXPECT_EQ(Prepare({"--data=chats.jsonl", "--format=jsonl", "--text_field=id"}).exit_code, 1);
  ExpectError({"--data=a.txt", "--chat_format=chatty"}, "there are chatml, qwen2");
  EXPECT_THAT(Prepare({"--data=a.txt", "--chat_format=chatml"}).out,
              HasSubstr("note: --chat_format=chatml is not used: no file holds conversations\n"));
}

TEST_F(PrepareProgramTest, ErrorsAreOneLineAndLeaveNothing) {
  const std::string gz = Gzip(std::string(100000, 'a') + "b");
  WriteFile(directory_ / "cut.txt.gz", gz.substr(0, gz.size() - 9));
  WriteFile(directory_ / "bad.jsonl", "{\"text\": \"one\"}\n{\"text\": tw\"}\n");
  WriteFile(directory_ / "field.jsonl", "{\"body\": \"one\"}\n");
  WriteFile(directory_ / "no_document.jsonl", "{\"text\": \"\"}\n");
  WriteFile(directory_ / "empty.txt", "");
  WriteFile(directory_ / "blank.jsonl", "\n");
  WriteFile(directory_ / "array.txt", std::string("\x93NUMPY\x01\0v\0", 10));
  fs::create_directories(directory_ / "full");
  WriteFile(directory_ / "full/mine.txt", "mine");
  struct Case {
    Flags flags;
    const char* part;
  };
  for (const Case& bad : std::vector<Case>{
           {{}, "--data: name files of text"},
           {{"--data=a.txt", "--tokenizer="}, "--tokenizer: name"},
           {{"--data=a.txt", "--out="}, "--out: name"},
           {{"--data=a.txt", "--format=csv"}, "--format=csv"},
           {{"--data=missing*.txt"}, "--data: "},
           {{"--data=a.txt", "--tokenizer=missing"}, "error: --tokenizer: missing"},
           {{"--data=a.txt", "--end_of_text=<|end|>"}, "\"<|end|>\" is no token of tok"},
           {{"--data=cut.txt.gz"},
            "error: --data: cut.txt.gz: the gzip stream is cut off at byte "},
           {{"--data=cut.txt.gz", "--out=new/folder/out/"}, "cut.txt.gz: the gzip stream is cut"},
           {{"--data=bad.jsonl"}, "bad.jsonl: line 2, column 10: this is no value"},
           {{"--data=bad.jsonl"}, "; to leave out what is no document, give --skip_bad_lines\n"},
           {{"--data=field.jsonl"}, "field.jsonl: line 1, column 1: has no member \"text\""},
           {{"--data=no_document.jsonl"}, "line 1: its document is empty; to leave out"},
           {{"--data=empty.txt"}, "empty.txt: is empty; to leave out"},
           {{"--data=a.txt,array.txt"}, "error: --data: array.txt: is a NumPy array, not text"},
           {{"--data=blank.jsonl"}, "error: --data: "},
           {{"--data=a.txt", "--out=full"}, "full: holds files that are no result"},
           {{"--data=a.txt", "--out=full"}, "error: --out: "},
           {{"--data=a.txt", "--out=a.txt"}, "is no folder"},
           {{"--data=a.txt", "--out=a.txt/b"}, "error: --out: "},
           {{"--data=a.txt", "--max_file_tokens=0"}, "--max_file_tokens=0"},
       }) {
    ExpectError(bad.flags, bad.part);
  }
}

TEST_F(PrepareProgramTest, AFullDiskLeavesNothing) {
  WriteFile(directory_ / "long.txt", std::string(200000, 'a'));
  ProgramOptions options = Here();
  options.max_file_bytes = 100000;
  const ProgramResult result = Prepare({"--data=long.txt", "--end_of_text=none"}, options);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err,
              MatchesRegex("error: --out: cannot write .*tokens-00000.bin.tmp[^\n]+\n"));
  EXPECT_FALSE(fs::exists(directory_ / "out"));
  EXPECT_FALSE(fs::exists(directory_ / "out.unfinished"));
}

// Stops a run by a signal some time after it began, and lets another one end it.
TEST_F(PrepareProgramTest, GoesOnAfterASignal) {
  std::string lines;
  for (int i = 0; i < 200000; ++i) {
    lines += "{\"text\": \"line " + std::to_string(i) + " of many\"}\n";
  }
  WriteFile(directory_ / "long.jsonl.gz", Gzip(lines));
  const Flags flags = {"--tokenizer=tok", "--data=long.jsonl.gz", "--end_of_text=!",
                       "--max_file_tokens=300000"};
  ASSERT_EQ(Prepare(flags + Flags{"--out=whole"}).exit_code, 0);
  const auto tokens = [&](const std::string& out) {
    auto tree = ReadTree(directory_ / out);
    tree.erase("prepared.json");
    return tree;
  };
  for (const int signal : {SIGTERM, SIGINT, SIGKILL}) {
    fs::remove_all(directory_ / "out");
    testing::Program program("tools/prepare", flags + Flags{"--out=out"}, Here());
    program.WaitForCpuTime(0.1);
    program.Send(signal);
    const ProgramResult stopped = program.Wait();
    if (stopped.exit_code != 0) {  // else it was done before the signal came
      EXPECT_EQ(stopped.exit_code, signal == SIGKILL ? 128 + SIGKILL : 3) << stopped.err;
      EXPECT_FALSE(fs::exists(directory_ / "out"));
    }
    ASSERT_EQ(Prepare(flags).exit_code, 0);
    EXPECT_TRUE(tokens("out") == tokens("whole")) << signal;
    EXPECT_FALSE(fs::exists(directory_ / "out.unfinished"));
  }
}

}  // namespace
}  // namespace strake
