// //tools:data as a user runs it, on runs of //tools:train: where the tokens of a step came from,
// found again by searching the text, and documents that are left out.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/json.h"
#include "core/testing/temp_directory.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "data/tokenizer/formats/tokenizer_json_writer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tiny_run.h"
#include "tools/data_why/document_bytes.h"

namespace strake {
namespace {

using testing::Flags;
using testing::ProgramResult;
using testing::ReadFile;
using testing::TinyRun;
using testing::WriteFile;
using testing::operator+;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

constexpr int32_t kEndOfText = 259;

// Bytes, three merges, and an end of text.
TokenizerSpec WordsTokenizer() {
  TokenizerSpec spec = ByteTokenizerSpec();
  const auto add = [&](const std::string& text) {
    spec.tokens.push_back(text);
    return static_cast<int32_t>(spec.tokens.size() - 1);
  };
  const int32_t la = add("la"), lan = add("lan"), space_p = add(" p");
  spec.merges = {{'l', 'a', la, 0}, {la, 'n', lan, 1}, {' ', 'p', space_p, 2}};
  const int32_t end = add("<|end|>");
  EXPECT_EQ(end, kEndOfText);
  spec.added = {{.id = end, .text = "<|end|>", .special = true}};
  spec.end_of_text = end;
  return spec;
}

std::string TextOf(int32_t token) {
  constexpr const char* kMerged[] = {"la", "lan", " p", ""};
  return token < 256 ? std::string(1, static_cast<char>(token)) : kMerged[token - 256];
}

// A line of --tokens: "    3  id 105  docs.jsonl:120  byte 7  "i"".
struct TokenLine {
  int64_t position = 0, id = 0, byte = 0;
  std::string document;
};

std::vector<TokenLine> TokenLines(const std::string& out) {
  std::vector<TokenLine> lines;
  for (const absl::string_view line : absl::StrSplit(out, '\n')) {
    if (!absl::StrContains(line, "  id ")) continue;
    TokenLine token;
    std::string word;
    std::istringstream(std::string(line)) >> token.position >> word >> token.id >> token.document >>
        word >> token.byte;
    EXPECT_EQ(word, "byte") << line;
    lines.push_back(token);
  }
  return lines;
}

// The text of each part of a document, which begins with its document.
std::vector<std::pair<std::string, std::string>> PiecesOf(const std::vector<TokenLine>& tokens) {
  std::vector<std::pair<std::string, std::string>> pieces;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const TokenLine& token = tokens[i];
    if (i == 0 || token.document != tokens[i - 1].document ||
        token.position != tokens[i - 1].position + 1) {
      pieces.emplace_back(token.document, "");
    }
    pieces.back().second += TextOf(static_cast<int32_t>(token.id));
  }
  return pieces;
}

class DataProgramTest : public ::testing::Test {
 protected:
  // Documents of 20 to 50 tokens, by name.
  void WriteDocuments() {
    std::string lines;
    for (int i = 0; i < 60; ++i) {
      const std::string text =
          absl::StrCat("plank ", i * i * i, std::string(i % 5, ' '), "of the long plan\t\xc3\xa9");
      documents_[absl::StrCat("docs.jsonl:", lines.size())] = text;
      absl::StrAppend(&lines, nlohmann::json({{"id", i}, {"text", text}}).dump(), "\n");
    }
    WriteFile(run_ / "docs.jsonl", lines);
    std::filesystem::create_directory(run_ / "tokenizer");
    const auto files = TokenizerFiles(WordsTokenizer());
    ASSERT_TRUE(files.ok()) << files.status();
    for (const auto& [name, content] : *files) WriteFile(run_ / ("tokenizer/" + name), content);
    nlohmann::json model = *ParseJson(testing::TinyConfig(), "model");
    model["vocab_size"] = 260;
    model["max_position_embeddings"] = 128;
    WriteFile(run_ / "words.json", model.dump());
  }
  static Flags WordsFlags() {
    return {"--model=./words.json", "--tokenizer=tokenizer", "--train_data=docs.jsonl"};
  }
  ProgramResult Data(const Flags& flags) const { return run_.Run("tools/data", flags); }
  std::string Why(const Flags& flags) const {
    const ProgramResult result = Data(Flags{"why"} + flags);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return result.out;
  }
  void ExpectError(const Flags& flags, const std::vector<std::string>& parts) const {
    const ProgramResult result = Data(flags);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, MatchesRegex("error: [^\n]+\n"));
    for (const std::string& part : parts) EXPECT_THAT(result.err, HasSubstr(part));
  }

  // Of each of eight steps of 4 x 8 tokens, on the documents.
  void ExpectTokensInTheirDocuments(const std::string& run) {
    std::set<std::string> seen;
    for (int step = 1; step <= 8; ++step) {
      const std::string step_flag = absl::StrCat("--step=", step);
      const std::vector<TokenLine> tokens = TokenLines(Why({run, step_flag, "--tokens"}));
      ASSERT_EQ(tokens.size(), 32);
      std::set<std::string> in_step;
      for (size_t i = 0; i < tokens.size(); ++i) {
        const TokenLine& token = tokens[i];
        EXPECT_EQ(token.position, i % 8);
        ASSERT_EQ(documents_.count(token.document), 1) << token.document;
        const std::string& text = documents_[token.document];
        const std::string bytes = TextOf(static_cast<int32_t>(token.id));
        EXPECT_EQ(text.substr(token.byte, bytes.size()), bytes) << token.document;
        if (token.id == kEndOfText) {
          EXPECT_EQ(token.byte, text.size());
        }
        // Tokens of one document follow each other.
        if (i % 8 > 0 && tokens[i - 1].document == token.document) {
          EXPECT_EQ(token.byte - tokens[i - 1].byte,
                    TextOf(static_cast<int32_t>(tokens[i - 1].id)).size());
        }
        in_step.insert(token.document);
      }
      seen.insert(in_step.begin(), in_step.end());
      const std::string list = Why({run, step_flag, "--list"});
      EXPECT_EQ(std::count(list.begin(), list.end(), '\n'), in_step.size());
      for (const std::string& name : in_step)
        EXPECT_THAT("\n" + list, HasSubstr("\n" + name + "\n"));
    }
    EXPECT_GT(seen.size(), 15);
    const std::string row = Why({run, "--step=2", "--row=1"});
    EXPECT_THAT(row,
                StartsWith(run + ", step 2: samples [4, 8) of 8 tokens\nrow 1: sample 5, epoch 1\n"
                                 "  [0, "));
    EXPECT_THAT(row, AllOf(HasSubstr("  docs.jsonl:"), HasSubstr("  bytes ["),
                           ::testing::ContainsRegex(" of [0-9a-f]+/tokens-00000.bin, tokens "),
                           ::testing::Not(HasSubstr("row 2"))));
  }

  // In the parts of documents of eight steps.
  void ExpectWholeConversations(const std::string& run) {
    std::set<std::string> seen;
    for (int step = 1; step <= 8; ++step) {
      const std::string out = Why({run, absl::StrCat("--step=", step), "--tokens"});
      for (const auto& [document, text] : PiecesOf(TokenLines(out))) {
        EXPECT_EQ(text, documents_[document]) << document;
        seen.insert(document);
      }
    }
    EXPECT_GT(seen.size(), 30) << run;
  }

  const TinyRun run_;
  std::map<std::string, std::string> documents_;
};

// Without a shuffle the order is that of the file.
TEST_F(DataProgramTest, BytesOfAText) {
  ASSERT_EQ(run_.Train({"--shuffle=false", "--steps=3"}).exit_code, 0);
  const std::string text = ReadFile(run_ / "text.txt");
  std::string want = "run, step 3: samples [8, 12) of 8 tokens\n";
  for (int row = 0; row < 4; ++row) {
    const int begin = (8 + row) * 8;
    absl::StrAppend(&want, "row ", row, ": sample ", 8 + row, ", epoch 1\n  [0, 8)  text.txt:0  ",
                    "bytes [", begin, ", ", begin + 8, ")  \"",
                    absl::StrJoin(absl::StrSplit(text.substr(begin, 8), '\n'), " "), "\"\n");
  }
  EXPECT_EQ(Why({"run", "--step=3"}), want);
  EXPECT_EQ(Why({"run/step-3", "--step=3"}).substr(10), want.substr(3));
  EXPECT_THAT(Why({"run", "--step=3", "--row=2", "--tokens"}),
              HasSubstr(absl::StrCat("    5  id ", static_cast<int>(text[85]),
                                     "  text.txt:0  byte ", "85  \"", text.substr(85, 1), "\"\n")));
}

TEST_F(DataProgramTest, ABlendHasTheSourceOfEachRow) {
  WriteFile(run_ / "b.txt", std::string(200, 'b'));
  ASSERT_EQ(run_.Train({"--train_data=a:text.txt:3,bs:b.txt:1", "--shuffle=false", "--steps=50"})
                .exit_code,
            0);
  // 22 samples of b.txt are an epoch: nine tenths of 200 bytes.
  std::vector<std::string> of_b;
  for (int step = 1; step <= 50; ++step) {
    const std::string out = Why({"run", absl::StrCat("--step=", step)});
    for (const absl::string_view line : absl::StrSplit(out, '\n')) {
      if (absl::StrContains(line, "of source bs")) of_b.emplace_back(line);
    }
    EXPECT_EQ(absl::StrContains(out, "  b.txt:0  bytes ["), absl::StrContains(out, "source bs"));
  }
  ASSERT_EQ(of_b.size(), 50);
  for (int i = 0; i < 50; ++i) {
    EXPECT_THAT(of_b[i], HasSubstr(absl::StrCat(", ", i, " of source bs, epoch ", i / 22 + 1)));
  }
}

// Rows of documents that do not see each other are windows of the text, too.
TEST_F(DataProgramTest, TokensAreFoundInTheirDocuments) {
  WriteDocuments();
  for (const char* run : {"run", "mask"}) {
    const Flags mask = run == std::string("run") ? Flags{} : Flags{"--documents=mask"};
    ASSERT_EQ(run_.Train(WordsFlags() + mask + Flags{absl::StrCat("--out=", run)}).exit_code, 0);
    ExpectTokensInTheirDocuments(run);
  }
}

// By //tools:train from the file, and by //tools:prepare before.
TEST_F(DataProgramTest, ConversationsArePreparedTrainedOnAndFound) {
  WriteDocuments();
  std::string lines;
  for (int i = 0; i < 40; ++i) {
    const std::string question = absl::StrCat("plank ", i * i), answer(1 + i % 5, 'a');
    // As zephyr writes it, without the end of text, which is no byte.
    documents_[absl::StrCat("chats.jsonl:", lines.size())] =
        absl::StrCat("<|user|>\n", question, "\n<|assistant|>\n", answer, "\n");
    absl::StrAppend(&lines, R"({"messages": [{"role": "user", "content": ")", question,
                    R"("}, {"role": "assistant", "content": ")", answer, "\"}]}\n");
  }
  WriteFile(run_ / "chats.jsonl", lines);
  const ProgramResult prepared =
      run_.Run("tools/prepare", {"--tokenizer=tokenizer", "--data=chats.jsonl", "--format=chat",
                                 "--chat_format=zephyr", "--out=tokens"});
  ASSERT_EQ(prepared.exit_code, 0) << prepared.err;
  // Answers of 1 to 5 bytes, and as many ends of text.
  EXPECT_THAT(prepared.out,
              AllOf(StartsWith("tokens: 40 documents, "), HasSubstr(" in 1 file, 160 of answers")));
  for (const std::string mode : {"mask", "pad"}) {
    const Flags flags = WordsFlags() + Flags{"--seq_len=128", "--documents=" + mode};
    const std::string text = "text_" + mode, tokens = "tokens_" + mode;
    ASSERT_EQ(run_.Train(flags +
                         Flags{"--train_data=chats.jsonl", "--chat_format=zephyr", "--out=" + text})
                  .exit_code,
              0);
    ASSERT_EQ(run_.Train(flags + Flags{"--train_data=tokens/tokens-00000.bin", "--out=" + tokens})
                  .exit_code,
              0);
    EXPECT_EQ(testing::Losses(run_ / text), testing::Losses(run_ / tokens));
    ExpectWholeConversations(text);
    ExpectWholeConversations(tokens);
    // Where no flag named the format, the run's identity does.
    const std::string record = run_ / (text + "/run.json");
    nlohmann::ordered_json json = *ParseOrderedJson(ReadFile(record), record);
    ASSERT_EQ(json["config"]["chat_format"], "zephyr");
    json["config"]["chat_format"] = "";
    WriteFile(record, json.dump());
    ExpectWholeConversations(text);
  }
  // Without what is an answer all would be learnt.
  std::filesystem::remove(run_ / "tokens/tokens-00000.targets");
  const ProgramResult damaged =
      run_.Train(WordsFlags() + Flags{"--train_data=tokens/tokens-00000.bin", "--out=damaged"});
  EXPECT_EQ(damaged.exit_code, 1);
  EXPECT_THAT(damaged.err, HasSubstr("tokens/tokens-00000.targets: is missing"));
}

TEST_F(DataProgramTest, WhatIsSkippedIsInNoStepAnyMore) {
  WriteDocuments();
  ASSERT_EQ(run_.Train(WordsFlags()).exit_code, 0);
  const std::string list = Why({"run", "--step=5", "--row=0", "--list"});
  EXPECT_THAT(list, StartsWith("docs.jsonl:"));
  WriteFile(run_ / "noise.txt", "# of step 5\n" + list);
  const Flags skip = WordsFlags() + Flags{"--skip_data=noise.txt", "--out=clean", "--steps=14",
                                          "--global_batch=32"};
  const ProgramResult trained = run_.Train(skip);
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("--skip_data=noise.txt: "));
  // All steps, of about two epochs.
  int step = 0;
  std::string seen;
  for (ProgramResult result; result.exit_code == 0 && step < 100;) {
    seen += result.out;
    result = Data({"why", "clean", absl::StrCat("--step=", ++step), "--list"});
    if (result.exit_code != 0) {
      EXPECT_THAT(result.err, HasSubstr("has steps 1 to "));
    }
  }
  EXPECT_EQ(step, 15);
  for (const absl::string_view name : absl::StrSplit(list, '\n', absl::SkipEmpty())) {
    EXPECT_THAT("\n" + seen, ::testing::Not(HasSubstr(absl::StrCat("\n", name, "\n"))));
  }
  int num_seen = 0;
  for (const auto& [name, text] : documents_) num_seen += absl::StrContains(seen, name + "\n");
  EXPECT_GT(num_seen, 45);
  // Another list is another run.
  WriteFile(run_ / "noise.txt", "# nothing\n");
  const ProgramResult other = run_.Train(skip);
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.err, AllOf(HasSubstr("--out=clean holds another run: train_data is"),
                               HasSubstr(" skipped")));
  ExpectError({"why", "clean", "--step=1"}, {"clean/run.json", "train_data is", " skipped"});
}

// Another run prepared the same text under other names.
TEST_F(DataProgramTest, NamesAreThoseThatTheRunWasGiven) {
  WriteDocuments();
  WriteFile(run_ / "other.jsonl", "{\"text\": \"" + std::string(100, 'o') + "\"}\n");
  const Flags blend = WordsFlags() + Flags{"--train_data=docs.jsonl:3,other.jsonl:1"};
  ASSERT_EQ(run_.Train(blend).exit_code, 0);
  EXPECT_THAT(Why({"run", "--step=1", "--list"}), HasSubstr("docs.jsonl:"));
  std::filesystem::rename(run_ / "docs.jsonl", run_ / "swapped.jsonl");
  std::filesystem::rename(run_ / "other.jsonl", run_ / "docs.jsonl");
  std::filesystem::rename(run_ / "swapped.jsonl", run_ / "other.jsonl");
  ASSERT_EQ(run_.Train(blend + Flags{"--out=swapped"}).exit_code, 0);
  for (int step = 1; step <= 4; ++step) {
    const std::string out = Why({"swapped", absl::StrCat("--step=", step)});
    for (const absl::string_view line : absl::StrSplit(out, '\n')) {
      if (!absl::StrContains(line, "  bytes [")) continue;
      EXPECT_THAT(std::string(line), HasSubstr(absl::StrContains(line, "ooo") ? "  docs.jsonl:0  "
                                                                              : "  other.jsonl:"));
    }
  }
}

TEST_F(DataProgramTest, TokensWithoutAnIndexHaveFilesAlone) {
  WriteDocuments();
  ASSERT_EQ(run_.Train(WordsFlags()).exit_code, 0);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(run_ / "data_cache")) {
    if (entry.path().extension() == ".bin") {
      std::filesystem::copy_file(entry.path(), run_ / "plain.bin");
    }
  }
  const Flags plain =
      WordsFlags() + Flags{"--train_data=plain.bin", "--out=plain", "--shuffle=false"};
  ASSERT_EQ(run_.Train(plain).exit_code, 0);
  EXPECT_THAT(Why({"plain", "--step=2", "--row=1"}),
              HasSubstr("\n  [0, 8)  plain.bin  tokens [40, 48)  \""));
  EXPECT_EQ(Why({"plain", "--step=2", "--list"}), "# not known: the documents of plain.bin\n");
}

TEST_F(DataProgramTest, ErrorsNameWhatIsMissing) {
  ASSERT_EQ(run_.Train({"--steps=2"}).exit_code, 0);
  ExpectError({}, {"what to print is missing"});
  ExpectError({"how", "run", "--step=1"}, {"\"how\""});
  ExpectError({"why", "--step=1"}, {"the folder of a run is missing"});
  ExpectError({"why", "run", "run", "--step=1"}, {"one word too many"});
  ExpectError({"why", "run"}, {"--step is missing"});
  ExpectError({"why", "run", "--step=0"}, {"step 0: the run in run has steps 1 to 2"});
  ExpectError({"why", "run", "--step=3"}, {"step 3: the run in run has steps 1 to 2"});
  ExpectError({"why", "run", "--step=1", "--row=4"}, {"row 4: ", "rows 0 to 3"});
  ExpectError({"why", "none", "--step=1"}, {"none: holds no run.json"});
  const std::string text = ReadFile(run_ / "text.txt");
  WriteFile(run_ / "text.txt", text + "more");
  ExpectError({"why", "run", "--step=1"},
              {"run/run.json: the data is not what the run was trained on: train_data is"});
  std::filesystem::remove(run_ / "text.txt");
  ExpectError({"why", "run", "--step=1"}, {"text.txt", "the options are those of run/run.json"});
  WriteFile(run_ / "run/run.json", "{}");
  ExpectError({"why", "run", "--step=1"}, {"run/run.json: "});
}

// Of a document whose tokens have 1, 2, 0, 1, 2, 0 and so on bytes, and whose text lacks the first.
TEST(DocumentBytesTest, ADocumentIsReadOnce) {
  constexpr int64_t kDocument = 999, kBlock = DocumentBytes::kTokensAtATime;
  int64_t num_read = 0;
  const auto read = [&](int64_t begin, int64_t count, int32_t* tokens) {
    num_read += count;
    for (int64_t i = 0; i < count; ++i) tokens[i] = static_cast<int32_t>((begin + i + 1) % 3);
    return absl::OkStatus();
  };
  DocumentBytes bytes({.read = read,
                       .num_bytes = [](int32_t token) { return int64_t{token}; },
                       .num_trimmed = [](int32_t) { return int64_t{1}; }});
  const auto expect = [&](int64_t begin, int64_t end) {
    const auto of_range = bytes.BytesOf(kDocument, {begin, end});
    ASSERT_TRUE(of_range.ok()) << of_range.status();
    ASSERT_EQ(of_range->size(), end - begin + 1);
    for (int64_t token = begin; token <= end; ++token) {
      const int64_t num_before = token - kDocument;
      const int64_t num_bytes = num_before + (num_before % 3 == 2 ? 1 : 0);
      ASSERT_EQ((*of_range)[token - begin], std::max<int64_t>(0, num_bytes - 1)) << token;
    }
  };
  expect(kDocument, kDocument + 5);
  expect(kDocument + 40 * kBlock - 3, kDocument + 40 * kBlock + 3);
  EXPECT_LT(num_read, 41 * kBlock);
  num_read = 0;
  for (int64_t i = 40; i > 0; --i) expect(kDocument + i * kBlock - 2, kDocument + i * kBlock);
  EXPECT_EQ(num_read, 40 * kBlock);
  expect(kDocument + kBlock - 1, kDocument + 2 * kBlock + 1);
}

}  // namespace
}  // namespace strake
