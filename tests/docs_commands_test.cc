// The commands of README.md and docs: each block of them is marked, by a comment before it that no
// reader sees, and is run, run with flags that make its work tiny, or parsed, as the mark says:
//
//   <!-- run -->    <!-- run tiny: train --steps=2; generate --max_tokens=4 -->
//   <!-- parse -->  <!-- fail -->, whose commands end with the error below them
//
// The blocks of a page are run one after another in one folder, which has what MakeUserFolder()
// puts there. To parse a block, the shell reads it, and our programs parse their flags.
#include <string.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tiny_run.h"
#include "tools/cli/user_paths.h"

namespace strake {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::ProgramResult;
using testing::ReadFile;
using testing::RunProgram;
using testing::TinyRun;
using testing::WriteFile;

struct Block {
  std::string page = {};
  int line = 0;           // of the page, from 1
  std::string mark = {};  // "run", "run tiny", "parse", "fail", or empty
  std::string tiny = {};  // "PROGRAM FLAGS; PROGRAM FLAGS"
  std::string commands = {};
  std::string output = {};  // what the page shows of what they print

  std::string Where() const { return absl::StrCat(page, ":", line); }
};

// Tells whether a paragraph that begins with this line is commands, and not what they print.
bool BeginsCommands(absl::string_view line) {
  static const auto& kCommands = *new std::set<std::string>{
      "#!/bin/bash", "(umask",      "cd",      "cp",      "curl", "docker", "echo", "env",
      "ls",          "mkdir",       "mv",      "rm",      "ssh",  "sudo",   "wget", "./bazelw",
      ".ci/run",     "bazel",       "cat",     "export",  "for",  "git",    "kill", "mpirun",
      "pip",         "printf",      "python3", "sbatch",  "sed",  "source", "srun", "tail",
      "tar",         "tensorboard", "timeout", "torchrun"};
  const std::string word(line.substr(0, line.find(' ')));
  const absl::string_view name = absl::string_view(word).substr(0, word.find('='));
  const bool is_assignment = name.size() < word.size() && !name.empty() &&
                             std::all_of(name.begin(), name.end(),
                                         [](char c) { return absl::ascii_isupper(c) || c == '_'; });
  return kCommands.count(word) > 0 || is_assignment || absl::StartsWith(word, "bazel-bin/") ||
         absl::StartsWith(word, "gpu_bundle/");
}

// Sets the paragraphs of a block that are commands, and the others.
void ReadCommands(const std::vector<std::string>& lines, Block* block) {
  bool is_first = true, is_command = false;
  for (const std::string& line : lines) {
    if (is_first) is_command = BeginsCommands(line);
    is_first = line.empty();
    absl::StrAppend(is_command ? &block->commands : &block->output, line, "\n");
  }
}

// Sets the mark of a block from the text of a comment. False where it is another comment.
bool ReadMark(absl::string_view line, Block* block) {
  if (!absl::ConsumePrefix(&line, "<!--") || !absl::ConsumeSuffix(&line, "-->")) return false;
  line = absl::StripAsciiWhitespace(line);
  for (const absl::string_view mark : {"run tiny", "run", "parse", "fail"}) {
    absl::string_view rest = line;
    if (!absl::ConsumePrefix(&rest, mark)) continue;
    if (!rest.empty() && !absl::ConsumePrefix(&rest, ":")) return false;
    block->mark = std::string(mark);
    block->tiny = std::string(absl::StripAsciiWhitespace(rest));
    return true;
  }
  return false;
}

// Removes the four blanks before a line of code. False where it is none; a blank line may be.
bool IsCode(std::string* line) {
  if (absl::StripAsciiWhitespace(*line).empty()) {
    line->clear();
    return true;
  }
  if (!absl::StartsWith(*line, "    ")) return false;
  line->erase(0, 4);
  return true;
}

// The blocks of commands of a page, and marks that no such block follows, with empty commands.
std::vector<Block> ReadBlocks(const std::string& page, const std::string& text) {
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  std::vector<Block> blocks;
  Block block{page};
  const auto end_block = [&] {
    if (!block.mark.empty() || !block.commands.empty()) blocks.push_back(block);
    block = Block{page};
  };
  bool after_blank = true;
  for (size_t i = 0; i < lines.size(); ++i) {
    const bool is_blank = absl::StripAsciiWhitespace(lines[i]).empty();
    if (!is_blank && after_blank && absl::StartsWith(lines[i], "    ")) {
      block.line = static_cast<int>(i) + 1;
      std::vector<std::string> code;
      std::string line = lines[i];
      while (i < lines.size() && IsCode(&(line = lines[i]))) code.push_back(line), ++i;
      --i;
      ReadCommands(code, &block);
      end_block();
      after_blank = true;
      continue;
    }
    after_blank = is_blank;
    if (is_blank) continue;
    end_block();
    if (ReadMark(lines[i], &block)) block.line = static_cast<int>(i) + 1;
  }
  end_block();
  return blocks;
}

std::string Runfile(const std::string& path) {
  const auto found = RunfilePath(path);
  EXPECT_TRUE(found.ok()) << found.status();
  return found.value_or("");
}

// README.md, then the pages of docs.
std::map<std::string, std::string> ReadPages() {
  std::map<std::string, std::string> pages = {{"README.md", ReadFile(Runfile("README.md"))}};
  const fs::path docs = fs::path(Runfile("docs/training.md")).parent_path();
  for (const auto& entry : fs::directory_iterator(docs)) {
    if (entry.path().extension() != ".md") continue;
    pages[absl::StrCat("docs/", entry.path().filename().string())] =
        ReadFile(entry.path().string());
  }
  return pages;
}

// What troubles the commands of troubleshooting.md.
void MakeTroubles(const TinyRun& user) {
  for (const auto& [file, text] : std::map<std::string, std::string>{
           {"options.json", R"({"batch": 4})"},
           {"mamba/config.json", R"({"model_type": "mamba"})"},
           {"pickled/config.json", testing::TinyConfig()},
           {"pickled/pytorch_model.bin", ""},
           {"unigram/tokenizer.json", R"({"model": {"type": "Unigram"}})"},
           {"other.bin", std::string(2048, 'x')},
           {"empty.txt", ""},
           {"short.txt", "hi\n"},
           {"broken.jsonl", "{\"text\": \"a\"\n"},
           {"other_field.jsonl", "{\"body\": \"a\"}\n"},
           {"chats.jsonl", R"({"messages": [{"role": "user", "content": "Hi"}, )"
                           R"({"role": "assistant", "content": "Hello"}]})"},
           {"skip.txt", "nothing.txt:0\n"},
           {"runs/foreign/metrics.jsonl", "a line\n"}}) {
    fs::create_directories(fs::path(user / file).parent_path());
    WriteFile(user / file, text);
  }
  for (const char* run : {"runs/damaged", "runs/away"}) {
    fs::copy(user / "runs/a", user / run, fs::copy_options::recursive);
  }
  fs::remove_all(user / "runs/away/step-2");
  std::string weights = ReadFile(user / "runs/damaged/step-2/model.safetensors");
  weights[3000] ^= 1;
  WriteFile(user / "runs/damaged/step-2/model.safetensors", weights);
}

// What the commands name: texts, a model in a folder of the home directory, and a run.
void MakeUserFolder(const TinyRun& user) {
  const std::string text = ReadFile(user / "text.txt");
  for (const char* folder : {"books", "docs", "src", "home/books"}) {
    fs::create_directories(user / folder);
    for (const char* file : {"a.txt", "b.txt"}) WriteFile(user / folder + "/" + file, text);
  }
  WriteFile(user / "docs/tutorial.md", text);
  for (const char* file : {"book.txt", "home/held_out.txt"}) WriteFile(user / file, text);
  WriteFile(user / "four_heads.json",
            absl::StrReplaceAll(testing::TinyConfig(),
                                {{"\"num_attention_heads\": 2", "\"num_attention_heads\": 4"},
                                 {"\"num_hidden_layers\": 1", "\"num_hidden_layers\": 2"}}));
  WriteFile(user / "ids.txt", "104\n117\n108\n108\n");
  WriteFile(user / "dump.gz", text);  // reads as what it is
  WriteFile(user / "notes.md", text);
  WriteFile(user / "questions.jsonl",
            R"({"context": "a", "choices": [" plank", " hull"], "answer": 1})");
  const ProgramResult trained =
      user.Train({"--steps=2", "--micro_batch=8", "--out=runs/a", "--train_data=books"});
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  MakeTroubles(user);
  for (const char* run : {"books", "llama-tiny", "llama-tiny-2"}) {
    fs::copy(user / "runs/a", user / "runs/" + run, fs::copy_options::recursive);
  }
  fs::create_directories(user / "home/models");
  for (const char* model : {"smollm2", "smollm2-135m", "models/gpt2", "models/llama"}) {
    fs::copy(user / "runs/a/step-2", user / "home/" + model, fs::copy_options::recursive);
  }
}

// Tells whether a text has all that a page shows of it, in that order: "..." stands for anything.
bool Shows(absl::string_view shown, absl::string_view text) {
  for (absl::string_view part : absl::StrSplit(absl::StripAsciiWhitespace(shown), "...")) {
    part = absl::StripAsciiWhitespace(part);
    const size_t begin = text.find(part);
    if (begin == absl::string_view::npos) return false;
    text.remove_prefix(begin + part.size());
  }
  return true;
}

// "" where the block's commands did what its mark says, else what they printed.
std::string Failure(const Block& block, const TinyRun& user) {
  WriteFile(user / ".block", block.commands);
  testing::ProgramOptions options = user.Here();
  options.launcher = {"/bin/bash"};
  const std::string mode = block.mark == "parse" ? "parse" : "run";
  const std::string tools = fs::path(Runfile("tools/train")).parent_path().string();
  const ProgramResult result =
      RunProgram("tests/docs_commands.sh", {mode, tools, user / ".block", block.tiny}, options);
  const bool is_as_marked = block.mark == "fail"
                                ? result.exit_code != 0 && Shows(block.output, result.err)
                                : result.exit_code == 0;
  if (is_as_marked) return "";
  return absl::StrCat(block.Where(), ": ", block.mark, " ends with ", result.exit_code, "\n",
                      block.commands, result.out, result.err);
}

// "" where the block has a mark, and the mark a block.
std::string WrongMark(const Block& block) {
  if (block.mark.empty()) {
    return absl::StrCat(block.Where(), ": no mark before the commands\n", block.commands);
  }
  if (block.commands.empty()) return block.Where() + ": a mark without commands after it";
  if ((block.mark == "run tiny") == block.tiny.empty()) {
    return block.Where() + ": run tiny needs the flags, and only run tiny has some";
  }
  return "";
}

TEST(DocsCommandsTest, EveryBlockDoesWhatItsMarkSays) {
  std::map<std::string, int> counts = {{"run", 0}, {"run tiny", 0}, {"parse", 0}, {"fail", 0}};
  for (const auto& [page, text] : ReadPages()) {
    const std::vector<Block> blocks = ReadBlocks(page, text);
    if (blocks.empty()) continue;
    const TinyRun user;
    MakeUserFolder(user);
    for (const Block& block : blocks) {
      const std::string wrong = WrongMark(block);
      EXPECT_EQ(wrong, "");
      if (!wrong.empty()) continue;
      EXPECT_EQ(Failure(block, user), "");
      ++counts[block.mark];
    }
  }
  for (const auto& [mark, count] : counts) {
    std::cout << mark << ": " << count << " blocks" << std::endl;
    EXPECT_GT(count, 0) << mark;
  }
}

// Tells whether texts of a program, each of six bytes or more, make up this one in a row.
bool IsMadeOf(absl::string_view text, const std::string& program) {
  constexpr size_t kFewest = 6;
  const auto has = [&](size_t size) {
    return memmem(program.data(), program.size(), text.data(), size) != nullptr;
  };
  while (!text.empty()) {
    size_t size = std::min(kFewest, text.size());
    if (!has(size)) return false;
    while (size < text.size() && has(size + 1)) ++size;
    text.remove_prefix(size);
  }
  return true;
}

// The line of an entry of troubleshooting.md that has the error, without "error: ".
std::string ErrorIn(absl::string_view entry) {
  for (absl::string_view line : absl::StrSplit(entry, '\n')) {
    if (absl::ConsumePrefix(&line, "    error: ")) return std::string(line);
  }
  return "";
}

// The parts of a shown error that the program's own words are, between what differs.
std::vector<std::string> WordsOf(absl::string_view shown) {
  std::vector<std::string> parts;
  for (absl::string_view part : absl::StrSplit(shown, "...", absl::SkipWhitespace())) {
    parts.emplace_back(absl::StripAsciiWhitespace(part));
  }
  return parts;
}

// Tells whether the program of a training may say this.
bool MaySay(const std::string& error, const std::string& train) {
  const std::vector<std::string> words = WordsOf(error);
  return std::all_of(words.begin(), words.end(),
                     [&](const std::string& part) { return IsMadeOf(part, train); });
}

// Errors that no command here leads to are the program's, too, and each has its words as a heading.
TEST(DocsCommandsTest, ErrorsAreWhatProgramsSay) {
  const std::string train = ReadFile(Runfile("tools/train"));
  const bool has_cuda = train.find("this build has no CUDA") == std::string::npos;
  const std::vector<std::string> entries =
      absl::StrSplit(ReadFile(Runfile("docs/troubleshooting.md")), "\n### ");
  EXPECT_GE(entries.size(), 31);
  int compared = 0;
  for (size_t i = 1; i < entries.size(); ++i) {
    const std::string error = ErrorIn(entries[i]);
    const std::string heading = entries[i].substr(0, entries[i].find('\n'));
    EXPECT_TRUE(Shows(heading, error)) << heading;
    if (absl::StrContains(entries[i], "<!-- fail -->")) continue;
    if (has_cuda && absl::StrContains(error, "no CUDA")) continue;
    EXPECT_TRUE(MaySay(error, train)) << error;
    ++compared;
  }
  EXPECT_GE(compared, 4);
  EXPECT_FALSE(MaySay("... is in use: a zebra of the zoo holds ...", train));
}

// The blocks of a page that a test writes.
std::vector<Block> BlocksOf(const std::string& text) { return ReadBlocks("page.md", text); }

TEST(DocsCommandsTest, BlocksAreFound) {
  const std::vector<Block> blocks = BlocksOf(
      "Text\n\n<!-- run tiny: train --steps=2 -->\n\n    ./bazelw run //tools:train\n\n"
      "    loss 3\n\n    bazel build //x\n\nText\n\n    loss 4\n\n    pip install x\n");
  ASSERT_EQ(blocks.size(), 2);
  EXPECT_EQ(blocks[0].mark, "run tiny");
  EXPECT_EQ(blocks[0].tiny, "train --steps=2");
  EXPECT_EQ(blocks[0].line, 5);
  EXPECT_EQ(blocks[0].commands, "./bazelw run //tools:train\n\nbazel build //x\n\n");
  EXPECT_EQ(WrongMark(blocks[0]), "");
  EXPECT_THAT(WrongMark(blocks[1]), HasSubstr("page.md:13: no mark"));
  EXPECT_THAT(WrongMark(BlocksOf("<!-- run -->\n\nText\n")[0]), HasSubstr("page.md:1: a mark"));
}

TEST(DocsCommandsTest, WrongCommandsFail) {
  const TinyRun user;
  const auto failure = [&](const std::string& mark, const std::string& commands,
                           const std::string& tiny = "") {
    return Failure({.page = "page.md", .line = 1, .mark = mark, .tiny = tiny, .commands = commands},
                   user);
  };
  EXPECT_EQ(failure("parse", "bazel run //tools:train -- --steps=3 --model=nothing\n"), "");
  EXPECT_THAT(failure("parse", "bazel run //tools:train -- --stepz=3\n"), HasSubstr("--stepz"));
  EXPECT_THAT(failure("parse", "bazel run //tools:train -- --steps=-1\n"), HasSubstr("--steps"));
  EXPECT_THAT(failure("parse", "bazel run //tools:nothing\n"), HasSubstr("//tools:nothing"));
  EXPECT_THAT(failure("parse", "mpirun -np 2 bazel-bin/tools/train --no_flag\n"),
              HasSubstr("no_flag"));
  EXPECT_THAT(failure("parse", "bazel-bin/tools/train --no_flag & wait\n"), HasSubstr("no_flag"));
  EXPECT_THAT(failure("parse", "unheard_of --flag\n"), HasSubstr("unheard_of"));
  EXPECT_THAT(failure("parse", "for i in 1; do\n"), HasSubstr("syntax error"));
  EXPECT_THAT(failure("fail", "bazel-bin/tools/train --help\n"), HasSubstr("fail ends"));
  EXPECT_THAT(failure("run", "bazel run //tools:train -- --train_data=nothing.txt\n"),
              HasSubstr("nothing.txt"));
  EXPECT_THAT(failure("run tiny", "bazel run //tools:train\n", "train --train_data=tiny.txt"),
              HasSubstr("tiny.txt"));
  EXPECT_EQ(failure("run tiny", "bazel run //tools:train\n", "check --no_flag; train --help"), "");
}

}  // namespace
}  // namespace strake
