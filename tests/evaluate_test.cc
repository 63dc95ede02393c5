// The program that evaluates: its numbers beside those of training, of each other and of each
// layout, and every error in its flags and files.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "parallel/comm/testing/mpirun.h"
#include "tests/tiny_run.h"

namespace strake {
namespace {

using nlohmann::json;
using testing::Flags;
using testing::ProgramResult;
using testing::ReadTree;
using testing::TinyRun;
using testing::WriteFile;
using testing::operator+;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

constexpr char kEvaluate[] = "tools/evaluate";

// Roundings of f32 in a model of one layer of 16 features: sums of about a hundred terms, of losses
// near 3, the largest four times their root mean square.
constexpr double kForwardError = 4 * 10 * 3 * 0x1p-24;

const Flags kCheckpoint = {"--checkpoint=run", "--threads=1", "--seq_len=8"};

constexpr char kQuestions[] =
    R"({"context": "line 4: the planks of a ", "choices": ["hull", "h", "zq"], "answer": 0}
{"context": "line 9", "choices": ["follow", "one curve", "one curve"], "answer": "one curve"}
{"context": "line 81: the planks of a hull follow one curve", "choices": ["x", "line"], "answer": 1}
)";

// A token file in llm.c's format.
std::string TokenFile(const std::string& text) {
  std::vector<int32_t> header(256);
  header[0] = 20240520;
  header[1] = 1;
  header[2] = text.size();
  std::string file(reinterpret_cast<const char*>(header.data()), 4 * header.size());
  for (const char c : text) file += {c, '\0'};
  return file;
}

// llm.c's questions: one, with two choices.
std::string QuestionTokens(uint16_t token) {
  const std::vector<uint16_t> numbers = {65535, 22, 0, 1, 2, 2, 'l', 'i', 1, token, 1, 'z'};
  std::vector<uint16_t> example = numbers;
  example[1] = 2 * example.size();
  std::vector<int32_t> header(256);
  header[0] = 20240522;
  header[1] = 1;
  header[2] = 1;
  return std::string(reinterpret_cast<const char*>(header.data()), 4 * header.size()) +
         std::string(reinterpret_cast<const char*>(example.data()), 2 * example.size());
}

// A run whose validation text is whole sequences: 100 of 8 tokens, and the last target.
class EvaluateTest : public ::testing::Test {
 protected:
  EvaluateTest() {
    text_ = testing::ReadFile(run_ / "text.txt").substr(0, 801);
    WriteFile(run_ / "val.txt", text_);
    WriteFile(run_ / "q.jsonl", kQuestions);
    const ProgramResult result =
        run_.Train({"--val_data=val.txt", "--eval_every=8", "--eval_batches=-1"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
  }

  // Also checks that nothing is written, and that the second time gives the same.
  json Evaluate(const Flags& flags) const {
    const auto before = ReadTree(run_.path());
    const Flags all = kCheckpoint + flags + Flags{"--json"};
    const ProgramResult result = run_.Run(kEvaluate, all);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    EXPECT_TRUE(ReadTree(run_.path()) == before);
    EXPECT_EQ(run_.Run(kEvaluate, all).out, result.out);
    return json::parse(result.out);
  }

  TinyRun run_;
  std::string text_;
};

TEST_F(EvaluateTest, TheLossIsTheValidationLossOfTraining) {
  const double val_loss = testing::ReadMetrics(run_ / "run").back().at("val_loss");
  const json result = Evaluate({"--data=val.txt"});
  EXPECT_NEAR(result["loss"], val_loss, kForwardError);
  EXPECT_EQ(result["tokens"], 800);
  EXPECT_EQ(result["bytes"], 801);
  const double loss = result["loss"];
  EXPECT_DOUBLE_EQ(result["perplexity"], std::exp(loss));
  EXPECT_DOUBLE_EQ(result["bits_per_byte"], loss * 800 / std::log(2.0) / 801);
  EXPECT_EQ(result["files"][0]["loss"], result["loss"]);
  EXPECT_EQ(result["seq_len"], 8);
}

TEST_F(EvaluateTest, AnAdaptersLossIsThatOfItsTraining) {
  const Flags tune = {"--init_from=run",    "--lora_rank=2",  "--lr=0.05",        "--out=lora",
                      "--val_data=val.txt", "--eval_every=8", "--eval_batches=-1"};
  const ProgramResult tuned = run_.Train(tune);
  ASSERT_EQ(tuned.exit_code, 0) << tuned.err;
  const double base_loss = Evaluate({"--data=val.txt"})["loss"];
  const Flags flags = {"--checkpoint=lora", "--data=val.txt"};
  const json result = Evaluate(flags);
  const double val_loss = testing::ReadMetrics(run_ / "lora").back().at("val_loss");
  // The merged weights are rounded once more.
  EXPECT_NEAR(result["loss"], val_loss, 2 * kForwardError);
  EXPECT_GT(std::abs(val_loss - base_loss), 100 * kForwardError);

  std::filesystem::rename(run_ / "run", run_ / "moved");
  const ProgramResult away = run_.Run(kEvaluate, kCheckpoint + flags);
  EXPECT_EQ(away.exit_code, 1);
  EXPECT_THAT(away.err, MatchesRegex("error: --checkpoint: .*adapter_config.json: the adapter's "
                                     "base [^\n]*by --base_model\n"));
  EXPECT_EQ(Evaluate(flags + Flags{"--base_model=moved"}), result);
  ASSERT_EQ(run_.Train({"--seed=3", "--out=other"}).exit_code, 0);
  const ProgramResult other =
      run_.Run(kEvaluate, kCheckpoint + flags + Flags{"--base_model=other"});
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.err, HasSubstr("was trained on a base with "));
}

TEST_F(EvaluateTest, MicroBatchesAndLayoutsGiveTheSameLoss) {
  const json one = Evaluate({"--data=val.txt,q.jsonl", "--items"});
  for (const Flags& flags : std::vector<Flags>{{"--micro_batch=1"},
                                               {"--micro_batch=7"},
                                               {"--micro_batch=1000"},
                                               {"--tp=2", "--comm_check"},
                                               {"--dp=3", "--micro_batch=4"},
                                               {"--tp=2", "--dp=2", "--sequence_parallel"},
                                               {"--ops=reference"}}) {
    SCOPED_TRACE(flags[0]);
    const json other = Evaluate(Flags{"--data=val.txt,q.jsonl", "--items"} + flags);
    EXPECT_NEAR(other["loss"], one["loss"], kForwardError);
    EXPECT_EQ(other["tokens"], one["tokens"]);
    EXPECT_EQ(other["acc"], one["acc"]);
    EXPECT_EQ(other["acc_norm"], one["acc_norm"]);
    for (size_t q = 0; q < 3; ++q) {
      const json& mine = other["tasks"][0]["items"][q]["log_likelihoods"];
      const json& expected = one["tasks"][0]["items"][q]["log_likelihoods"];
      ASSERT_EQ(mine.size(), expected.size());
      for (size_t c = 0; c < mine.size(); ++c) {
        EXPECT_NEAR(mine[c], expected[c], 10 * kForwardError);
      }
    }
  }
}

// The model has three layers, and is evaluated alone and with an adapter.
TEST_F(EvaluateTest, StagesGiveTheBitsOfOne) {
  std::string config = testing::ReadFile(run_ / "llama.json");
  config.replace(config.find("layers\": 1") + 9, 1, "3");
  WriteFile(run_ / "three.json", config);
  ASSERT_EQ(run_.Train({"--model=three.json", "--out=three"}).exit_code, 0);
  const Flags tune = {"--model=three.json", "--init_from=three", "--lora_rank=2", "--lr=0.05",
                      "--out=lora"};
  ASSERT_EQ(run_.Train(tune).exit_code, 0);
  const auto evaluate = [&](const char* run, const Flags& layout) {
    return Evaluate(Flags{absl::StrCat("--checkpoint=", run), "--data=val.txt,q.jsonl", "--items"} +
                    layout);
  };
  std::set<double> losses;
  for (const char* run : {"three", "lora"}) {
    for (const Flags& tp : std::vector<Flags>{{}, {"--tp=2"}}) {
      const json one = evaluate(run, tp);
      losses.insert(one["loss"].get<double>());
      for (const Flags& stages : std::vector<Flags>{
               {"--pp=3", "--comm_check"}, {"--pp=2", "--pp_layers=1,2"}, {"--pp=2", "--dp=2"}}) {
        EXPECT_EQ(evaluate(run, stages + tp), one) << run << " " << stages[1];
      }
    }
  }
  EXPECT_GE(losses.size(), 2);
}

TEST_F(EvaluateTest, FilesOfTokensAreTheText) {
  WriteFile(run_ / "val.bin", TokenFile(text_));
  const json text = Evaluate({"--data=val.txt"});
  json tokens = Evaluate({"--data=val.bin"});
  tokens["files"][0]["file"] = "val.txt";
  EXPECT_EQ(tokens, text);
}

TEST_F(EvaluateTest, FilesAddUp) {
  WriteFile(run_ / "short.txt", text_.substr(0, 100));
  const json result = Evaluate({"--data=val.txt,short.txt"});
  ASSERT_EQ(result["files"].size(), 2u);
  const json &a = result["files"][0], &b = result["files"][1];
  EXPECT_EQ(b["tokens"], 99);
  EXPECT_EQ(result["tokens"], 899);
  const double nats = double(a["loss"]) * 800 + double(b["loss"]) * 99;
  EXPECT_NEAR(result["loss"], nats / 899, 1e-12);
  EXPECT_NEAR(result["bits_per_byte"], nats / std::log(2.0) / 901, 1e-12);
}

// Documents are evaluated one after the other: bytes have no token to stand between them.
TEST_F(EvaluateTest, JsonLinesAreDocuments) {
  WriteFile(run_ / "documents.jsonl",
            "{\"body\": \"line 4: the planks \"}\n\n"
            "{\"id\": 3, \"body\": \"of a hull\\n\"}\n");
  WriteFile(run_ / "same.txt", "line 4: the planks of a hull\n");
  const json documents = Evaluate({"--data=documents.jsonl", "--text_field=body"});
  const json text = Evaluate({"--data=same.txt"});
  EXPECT_EQ(documents["loss"], text["loss"]);
  EXPECT_EQ(documents["bits_per_byte"], text["bits_per_byte"]);
}

TEST_F(EvaluateTest, AStridePredictsEachTokenFromMore) {
  const json windows = Evaluate({"--data=val.txt", "--seq_len=32", "--stride=4"});
  EXPECT_EQ(windows["tokens"], 800);
  EXPECT_EQ(windows["stride"], 4);
  // One window of the whole text is one block of one input less.
  WriteFile(run_ / "short.txt", text_.substr(0, 30));
  const json one = Evaluate({"--data=short.txt", "--seq_len=30", "--stride=29"});
  const json block = Evaluate({"--data=short.txt", "--seq_len=29"});
  EXPECT_EQ(one["loss"], block["loss"]);
  EXPECT_EQ(one["tokens"], 29);
}

TEST_F(EvaluateTest, ScoresQuestions) {
  const json result = Evaluate({"--eval_tasks=q.jsonl", "--items"});
  EXPECT_FALSE(result.contains("loss"));
  EXPECT_EQ(result["questions"], 3);
  const json& task = result["tasks"][0];
  EXPECT_EQ(task["file"], "q.jsonl");
  // 46 bytes of context, 32 positions.
  EXPECT_EQ(task["truncated"], 2);
  int right = 0;
  for (const json& item : task["items"]) {
    right += item["chosen"] == item["answer"];
    for (const json& l : item["log_likelihoods"]) EXPECT_LT(double(l), 0);
  }
  EXPECT_DOUBLE_EQ(result["acc"], right / 3.0);
  const json& equal = task["items"][1]["log_likelihoods"];
  EXPECT_EQ(equal[1], equal[2]);
  EXPECT_NE(equal[0], equal[1]);
  // A choice by itself: the loss of the whole less that of the context.
  WriteFile(run_ / "context.txt", "line 9");
  WriteFile(run_ / "whole.txt", "line 9 follow");
  const auto nats = [&](const char* file) {
    const json loss = Evaluate({absl::StrCat("--data=", file), "--seq_len=32"});
    return double(loss["loss"]) * double(loss["tokens"]);
  };
  EXPECT_NEAR(equal[0], nats("context.txt") - nats("whole.txt"), 20 * kForwardError);
  EXPECT_EQ(Evaluate({"--data=q.jsonl", "--items"}), result);
}

TEST_F(EvaluateTest, ReadsTheQuestionsOfLlmC) {
  WriteFile(run_ / "h.bin", QuestionTokens('n'));
  const json result = Evaluate({"--data=h.bin", "--items"});
  const json& item = result["tasks"][0]["items"][0];
  EXPECT_EQ(item["answer"], 1);
  EXPECT_EQ(item["chosen"], item["chosen_norm"]);
  ASSERT_EQ(item["log_likelihoods"].size(), 2u);
  EXPECT_NE(item["log_likelihoods"][0], item["log_likelihoods"][1]);
}

TEST_F(EvaluateTest, PrintsLines) {
  const ProgramResult result =
      run_.Run(kEvaluate, kCheckpoint + Flags{"--data=val.txt,text.txt,q.jsonl"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out,
              MatchesRegex("val.txt: loss [0-9.]+, perplexity [0-9.]+, [0-9.]+ bits per byte, 800 "
                           "tokens\ntext.txt: [^\n]+\nall files: [^\n]+\n"
                           "q.jsonl: acc [0-9.]+ \\(\\+- [0-9.]+\\), acc_norm [^\n]+, 3 questions; "
                           "of 2 choices the context was cut at its beginning\n"));
}

TEST_F(EvaluateTest, RunsUnderMpirun) {
  const json threads = Evaluate({"--data=val.txt,q.jsonl", "--dp=2"});
  testing::ProgramOptions options = run_.Here();
  options.launcher = testing::MpirunCommand(2);
  const ProgramResult result = testing::RunProgram(
      kEvaluate, kCheckpoint + Flags{"--data=val.txt,q.jsonl", "--dp=2", "--comm=mpi", "--json"},
      options);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(json::parse(result.out), threads);
}

TEST_F(EvaluateTest, ErrorsAreNamed) {
  const std::string good =
      R"({"context": "a", "choices": ["b", "c"], "answer": 0})" + std::string("\n");
  WriteFile(run_ / "empty.txt", "");
  WriteFile(run_ / "one.txt", "a");
  WriteFile(run_ / "image.txt", std::string("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16));
  WriteFile(run_ / "broken.jsonl", good + "{\"context\": \"a\", \"choices\": [\"b\" \"c\"]}\n");
  WriteFile(run_ / "field.jsonl", good + "{\"context\": \"a\", \"choices\": [\"b\"]}\n");
  WriteFile(run_ / "answer.jsonl", R"({"context": "a", "choices": ["b", "c"], "answer": 2})");
  WriteFile(run_ / "nothing.jsonl", "\n");
  WriteFile(run_ / "no_context.jsonl", R"({"context": "", "choices": ["b"], "answer": 0})");
  WriteFile(run_ / "long.jsonl", absl::StrCat(R"({"context": "a", "choices": [")",
                                              std::string(40, 'b'), R"("], "answer": 0})"));
  WriteFile(run_ / "large.bin", QuestionTokens(300));
  WriteFile(run_ / "cut.bin", QuestionTokens('n').substr(0, 1040));
  WriteFile(run_ / "text.jsonl", "{\"text\": \"a line\"}\n{\"tex\": \"b\"}\n");
  struct Case {
    Flags flags;
    std::vector<std::string> parts;
  };
  const auto before = ReadTree(run_.path());
  for (const Case& bad : std::vector<Case>{
           {{}, {"nothing to evaluate; give --data=FILES, or --eval_tasks=FILES"}},
           {{"--checkpoint=nowhere", "--data=val.txt"}, {"--checkpoint=nowhere", "no such"}},
           {{"--data=nowhere.txt"}, {"--data: ", "nowhere.txt"}},
           {{"--eval_tasks=nowhere.jsonl"}, {"--eval_tasks: ", "nowhere.jsonl"}},
           {{"--data=empty.txt"}, {"--data: ", "empty.txt", "empty"}},
           {{"--data=one.txt"}, {"--data: data file one.txt: holds 1 token"}},
           {{"--data=image.txt"}, {"image.txt", "PNG"}},
           {{"--data=text.jsonl"}, {"text.jsonl", "line 2", "\"text\""}},
           {{"--data=val.txt", "--stride=8"}, {"--stride=8 is not below --seq_len=8"}},
           {{"--data=val.txt", "--stride=-1"}, {"--stride=-1: must be"}},
           {{"--data=val.txt", "--micro_batch=-1"}, {"--micro_batch=-1: must be"}},
           {{"--data=val.txt", "--tp=3"}, {"--tp=3", "--tp may be 1, 2"}},
           {{"--data=val.txt", "--pp=2"}, {"--pp=2", "1 layer"}},
           {{"--data=val.txt", "--pp_layers=1"}, {"--pp_layers=1", "--pp=1 is one stage"}},
           {{"--data=val.txt", "--items"}, {"--items is a part of the JSON output"}},
           {{"--data=val.txt", "--tokenizer=nowhere"}, {"--tokenizer: nowhere: there is no"}},
           {{"--dat=val.txt"}, {"--dat", "the nearest is --data"}},
           {{"--data=broken.jsonl"}, {"--data: broken.jsonl, line 2: bad JSON: ", "column 36"}},
           {{"--data=field.jsonl"}, {"field.jsonl, line 2: has no member \"answer\""}},
           {{"--data=answer.jsonl"}, {"answer.jsonl, line 1: \"answer\" is 2, and the 2 choices"}},
           {{"--eval_tasks=nothing.jsonl"}, {"--eval_tasks: nothing.jsonl: holds no questions"}},
           {{"--eval_tasks=val.txt"}, {"val.txt, line 1: bad JSON"}},
           {{"--data=no_context.jsonl"}, {"no_context.jsonl, line 1: choice 0: the context is"}},
           {{"--data=long.jsonl"}, {"long.jsonl, line 1: choice 0: it has 41 tokens", "most 32"}},
           {{"--data=large.bin"}, {"large.bin: example 0 holds token 300"}},
           {{"--data=cut.bin"}, {"cut.bin: example 0 has 24 bytes by its own account"}},
       }) {
    SCOPED_TRACE(bad.parts[0]);
    const ProgramResult result = run_.Run(kEvaluate, kCheckpoint + bad.flags);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, MatchesRegex("error: [^\n]+\n"));
    for (const std::string& part : bad.parts) EXPECT_THAT(result.err, HasSubstr(part));
  }
  EXPECT_TRUE(ReadTree(run_.path()) == before);
}

TEST_F(EvaluateTest, LearnedPositionsAreALimit) {
  ASSERT_EQ(run_.Train({"--model=./gpt2.json", "--steps=1", "--out=gpt2"}).exit_code, 0);
  const ProgramResult result =
      run_.Run(kEvaluate, {"--checkpoint=gpt2", "--threads=1", "--data=val.txt", "--seq_len=33"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("error: --seq_len=33 is above the model's 32 positions"));
}

TEST_F(EvaluateTest, TextNeedsATokenizer) {
  json config = json::parse(testing::TinyConfig());
  config["vocab_size"] = 300;
  WriteFile(run_ / "wide.json", config.dump());
  WriteFile(run_ / "tokens.bin", TokenFile(text_));
  ASSERT_EQ(run_.Train({"--model=./wide.json", "--train_data=tokens.bin", "--out=wide"}).exit_code,
            0);
  const auto evaluate = [&](const std::string& data) {
    return run_.Run(kEvaluate, {"--checkpoint=wide", "--threads=1", "--json", data});
  };
  for (const char* file : {"val.txt", "q.jsonl"}) {
    EXPECT_THAT(evaluate(absl::StrCat("--data=", file)).err,
                MatchesRegex(absl::StrCat("error: --data: [^\n]*", file,
                                          "[^\n]*vocabulary of 300 tokens but no tokenizer; give "
                                          "it by --tokenizer\n")));
  }
  const json tokens = json::parse(evaluate("--data=tokens.bin").out);
  EXPECT_GT(double(tokens["loss"]), 0);
  EXPECT_TRUE(tokens["bits_per_byte"].is_null());
}

TEST_F(EvaluateTest, MemoryIsCheckedBeforeItStarts) {
  json config = json::parse(testing::ReadFile(run_ / "run/step-8/config.json"));
  config["max_position_embeddings"] = 2000000000;
  WriteFile(run_ / "run/step-8/config.json", config.dump());
  std::string text;
  for (int i = 0; i < 100; ++i) text += text_;
  WriteFile(run_ / "long.txt", text);
  const ProgramResult result =
      run_.Run(kEvaluate, Flags{"--checkpoint=run", "--threads=1", "--data=long.txt",
                                "--seq_len=1000000000", "--dp=1000"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("passes of 1 x 80099 tokens need "));
  EXPECT_THAT(result.err, HasSubstr("iB are free"));
}

TEST(EvaluateHelpTest, NamesEveryFlag) {
  const ProgramResult result = testing::RunProgram(kEvaluate, {"--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  for (const char* name : {"checkpoint", "base_model", "data", "eval_tasks", "seq_len", "stride",
                           "micro_batch", "tokenizer", "json", "items", "device", "dtype", "tp",
                           "cp", "pp", "pp_layers", "dp", "comm"}) {
    EXPECT_THAT(result.out, HasSubstr(absl::StrCat("\n  --", name, "=")));
  }
}

}  // namespace
}  // namespace strake
