// //tools:generate: texts in and out, with a model's tokenizer.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tiny_run.h"

namespace strake {
namespace {

using testing::Flags;
using testing::ProgramResult;
using testing::ReadFile;
using testing::TinyRun;
using testing::WriteFile;
using testing::operator+;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

// A tokenizer of 256 tokens: the letters a to z, the blank, "th", "the" and, after unused ones,
// "<end>" (255). Each text begins with "<begin>" (254).
std::string TokenizerJson() {
  nlohmann::ordered_json vocab;
  for (int i = 0; i < 26; ++i) vocab[std::string(1, 'a' + i)] = i;
  vocab["\u0120"] = 26;
  vocab["th"] = 27;
  vocab["the"] = 28;
  for (int i = 29; i < 254; ++i) vocab["unused" + std::to_string(i)] = i;
  const auto added = [](int id, const char* text) {
    return nlohmann::ordered_json{{"id", id},        {"content", text}, {"single_word", false},
                                  {"lstrip", false}, {"rstrip", false}, {"normalized", false},
                                  {"special", true}};
  };
  const nlohmann::ordered_json byte_level = {{"type", "ByteLevel"},
                                             {"add_prefix_space", false},
                                             {"trim_offsets", true},
                                             {"use_regex", true}};
  nlohmann::ordered_json begin = nlohmann::ordered_json::parse(R"({
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<begin>", "type_id": 0}},
               {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<begin>": {"id": "<begin>", "ids": [254], "tokens": ["<begin>"]}}})");
  const nlohmann::ordered_json json = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", {added(254, "<begin>"), added(255, "<end>")}},
      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level},
      {"post_processor", begin},
      {"decoder", byte_level},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"vocab", vocab},
        {"merges", {"t h", "th e"}}}}};
  return JsonText(json);
}

class GenerateProgramTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const ProgramResult trained = run_.Train();
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
    // Stands for another program's model: the tests change its files.
    std::filesystem::rename(run_ / "run/step-8", run_ / "hf");
    std::filesystem::remove(run_ / "hf/manifest.json");
  }

  ProgramResult Run(const Flags& flags) const {
    return run_.Run("tools/generate",
                    Flags{"--checkpoint=hf", "--threads=1", "--max_tokens=12"} + flags);
  }
  std::vector<nlohmann::json> Json(const Flags& flags) const {
    const ProgramResult result = Run(Flags{"--json"} + flags);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    std::vector<nlohmann::json> objects;
    size_t at = 0;
    for (size_t end; (end = result.out.find('\n', at)) != std::string::npos; at = end + 1) {
      objects.push_back(nlohmann::json::parse(result.out.substr(at, end - at)));
    }
    EXPECT_EQ(at, result.out.size());
    return objects;
  }
  void UseTokenizer() const { WriteFile(run_ / "hf/tokenizer.json", TokenizerJson()); }
  void ExpectError(const Flags& flags, const std::vector<std::string>& parts) const {
    const ProgramResult result = Run(flags);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, MatchesRegex("error: [^\n]+\n"));
    for (const std::string& part : parts) EXPECT_THAT(result.err, HasSubstr(part));
  }

  const TinyRun run_;
};

TEST_F(GenerateProgramTest, TextGoesThroughTheModelsTokenizer) {
  UseTokenizer();
  const auto rows = Json({"--prompt=the cat"});
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0]["prompt"], "the cat");
  EXPECT_EQ(rows[0]["prompt_tokens"], (std::vector<int>{254, 28, 26, 2, 0, 19}));
  EXPECT_EQ(rows[0]["tokens"].size(), 12u);
  EXPECT_EQ(rows[0]["stopped_by"], "max_tokens");
  const ProgramResult text = Run({"--prompt=the cat"});
  EXPECT_EQ(text.out, "the cat" + rows[0]["text"].get<std::string>() + "\n");
  EXPECT_THAT(text.err,
              MatchesRegex("12 tokens, the first after [0-9.]+ s, then [0-9.]+ tokens/s\n"));
  const ProgramResult quiet = Run({"--prompt=the cat", "--quiet"});
  EXPECT_EQ(quiet.out, text.out);
  EXPECT_EQ(quiet.err, "");
  // The same tokens as numbers.
  std::string numbers = "254,28,26,2,0,19";
  for (const auto& token : rows[0]["tokens"]) numbers += "," + std::to_string(token.get<int>());
  EXPECT_EQ(Run({"--prompt_tokens=254,28,26,2,0,19"}).out, numbers + "\n");
}

TEST_F(GenerateProgramTest, APromptMayHaveAnyBytes) {
  const auto rows = Json({"--prompt=a\xff"});
  EXPECT_EQ(rows[0]["prompt_tokens"], (std::vector<int>{'a', 0xff}));
  EXPECT_EQ(rows[0]["prompt"], "a\ufffd");
}

TEST_F(GenerateProgramTest, AnotherTokenizerMayBeGiven) {
  const auto bytes = Json({"--prompt=the"});
  EXPECT_EQ(bytes[0]["prompt_tokens"], (std::vector<int>{'t', 'h', 'e'}));
  std::filesystem::create_directory(run_ / "other");
  WriteFile(run_ / "other/tokenizer.json", TokenizerJson());
  for (const char* path : {"other", "other/tokenizer.json"}) {
    const auto rows = Json({"--prompt=the", std::string("--tokenizer=") + path});
    EXPECT_EQ(rows[0]["prompt_tokens"], (std::vector<int>{254, 28})) << path;
  }
}

TEST_F(GenerateProgramTest, EndTokensEndTheText) {
  const auto rows = Json({"--prompt=line", "--temperature=0"});
  const std::vector<int> whole = rows[0]["tokens"];
  const auto first = std::find(whole.begin(), whole.end(), whole[5]);
  const std::vector<int> cut(whole.begin(), first + 1);
  WriteFile(run_ / "hf/generation_config.json",
            "{\"eos_token_id\": [300, " + std::to_string(whole[5]) + "]}");
  const auto ended = Json({"--prompt=line", "--temperature=0"});
  EXPECT_EQ(ended[0]["tokens"], cut);
  EXPECT_EQ(ended[0]["stopped_by"], "end_token");
  EXPECT_EQ(Json({"--prompt=line", "--temperature=0", "--ignore_eos"})[0]["tokens"], whole);
}

TEST_F(GenerateProgramTest, AnAdapterIsAddedToItsBase) {
  const Flags tune = {"--init_from=hf", "--lora_rank=4", "--lr=0.3", "--steps=3"};
  const Flags outs[] = {{"--out=lora", "--seed=1"}, {"--out=still", "--lr=0"}};
  for (const Flags& out : outs) {
    const ProgramResult tuned = run_.Train(tune + out);
    ASSERT_EQ(tuned.exit_code, 0) << tuned.err;
  }
  const Flags flags = {"--prompt=the hull", "--temperature=0"};
  const auto base = Json(flags);
  EXPECT_EQ(Json(flags + Flags{"--checkpoint=still"}), base) << "one that is zero changes nothing";
  EXPECT_NE(Json(flags + Flags{"--checkpoint=lora"}), base);
  ExpectError({"--checkpoint=hf", "--base_model=hf"}, {"hf: is no adapter"});
}

// Each prompt's text is that of the prompt alone with its seed, whatever stands beside it.
TEST_F(GenerateProgramTest, SeveralPromptsAreSeveralTexts) {
  const std::vector<std::string> prompts = {"a", "line of text", "a", "zz", "line", "b"};
  std::string lines, jsonl;
  for (const std::string& prompt : prompts) {
    lines += prompt + "\n";
    jsonl += JsonText(nlohmann::json{{"prompt", prompt}}) + "\n";
  }
  WriteFile(run_ / "prompts.txt", lines);
  WriteFile(run_ / "prompts.jsonl", jsonl);
  const auto rows = Json({"--prompts=prompts.txt", "--seed=5"});
  ASSERT_EQ(rows.size(), prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(rows[i], Json({"--prompt=" + prompts[i], "--seed=" + std::to_string(5 + i)})[0]);
  }
  EXPECT_NE(rows[0]["tokens"], rows[2]["tokens"]);
  const std::vector<Flags> same = {{"--prompts=prompts.jsonl"},
                                   {"--prompts=prompts.txt", "--batch=2"},
                                   {"--prompts=prompts.txt", "--threads=2"}};
  for (const Flags& flags : same) EXPECT_EQ(Json(flags + Flags{"--seed=5"}), rows) << flags[0];
  const std::string text = Run({"--prompts=prompts.txt", "--seed=5"}).out;
  EXPECT_THAT(text, StartsWith("a" + rows[0]["text"].get<std::string>() + "\n---\nline of text"));
}

TEST_F(GenerateProgramTest, ErrorsAreNamed) {
  WriteFile(run_ / "bad.jsonl", "{\"prompt\": \"x\"}\n{\"text\": \"x\"}\n");
  WriteFile(run_ / "long.txt", "x\n" + std::string(40, 'y') + "\n");
  ExpectError({"--prompts=bad.jsonl"}, {"--prompts: bad.jsonl: line 2: no member \"prompt\""});
  ExpectError({"--prompts=none.txt"}, {"--prompts: ", "none.txt"});
  ExpectError({"--prompts=long.txt"},
              {"--prompts: long.txt: prompt 2 has 40 tokens", "32 positions"});
  std::string numbers = "1";
  for (int i = 0; i < 32; ++i) numbers += ",1";
  ExpectError({"--prompt_tokens=" + numbers}, {"--prompt_tokens has 33 tokens", "32 positions"});
  ExpectError({"--prompts=long.txt", "--prompt=x"}, {"only one of --prompt, --prompts"});
  ExpectError({"--min_p=2"}, {"--min_p=2", "must be"});
  ExpectError({"--repetition_penalty=0"}, {"--repetition_penalty=0", "must be"});
  ExpectError({"--tokenizer=nowhere"}, {"--tokenizer: nowhere: there is no such tokenizer"});
  WriteFile(run_ / "hf/generation_config.json", "{\"eos_token_id\": \"x\"}");
  ExpectError({}, {"--checkpoint: hf/generation_config.json: eos_token_id is \"x\""});
  WriteFile(run_ / "hf/generation_config.json", "{}");
  UseTokenizer();
  auto json = nlohmann::ordered_json::parse(TokenizerJson());
  json["added_tokens"][1]["id"] = 256;
  json["model"]["vocab"]["more"] = 255;
  WriteFile(run_ / "hf/tokenizer.json", json.dump());
  ExpectError({}, {"--checkpoint: hf: the tokenizer has 257 tokens, and the model 256"});
  ExpectError({"--tokenizer=hf/tokenizer.json"},
              {"--tokenizer: hf/tokenizer.json: the tokenizer has 257 tokens, and the model 256"});
  const std::string weights = testing::ReadFile(run_ / "hf/model.safetensors");
  WriteFile(run_ / "hf/model.safetensors", weights.substr(0, weights.size() / 2));
  ExpectError({"--prompt_tokens=1"}, {"--checkpoint: ", "hf/model.safetensors"});
  WriteFile(run_ / "hf/config.json", "{");
  ExpectError({}, {"--checkpoint: hf/config.json: bad JSON"});
}

// The tokenizer with ChatML's tokens.
std::string ChatTokenizerJson() {
  auto json = nlohmann::ordered_json::parse(TokenizerJson());
  for (const auto& [id, text] : {std::pair(252, "<|im_start|>"), std::pair(253, "<|im_end|>")}) {
    auto token = json["added_tokens"][0];
    token["id"] = id;
    token["content"] = text;
    json["added_tokens"].push_back(token);
    json["model"]["vocab"].erase("unused" + std::to_string(id));
  }
  return JsonText(json);
}

// What they decode to up to "<|im_end|>", without special tokens.
std::string ChatText(const std::vector<int>& tokens) {
  std::string text;
  for (const int token : tokens) {
    if (token == 253) break;
    if (token < 26) text += static_cast<char>('a' + token);
    if (token == 26) text += ' ';
    if (token == 27) text += "th";
    if (token == 28) text += "the";
    if (token > 28 && token < 252) text += "unused" + std::to_string(token);
  }
  return text;
}

TEST_F(GenerateProgramTest, Converses) {
  WriteFile(run_ / "hf/tokenizer.json", ChatTokenizerJson());
  const auto converse = [&](const std::string& input, const Flags& flags) {
    return testing::RunProgram(
        "tools/generate",
        Flags{"--checkpoint=hf", "--threads=1", "--chat", "--max_tokens=12", "--seed=3"} + flags,
        {.directory = run_.path(),
         .launcher = {"sh", "-c", "printf '" + input + "' | \"$@\"", "sh"}});
  };
  // What ChatML writes of "hi", with the prompt for an answer; line ends have no token here.
  const auto rows =
      Json({"--prompt_tokens=252,20,18,4,17,7,8,253,252,0,18,18,8,18,19,0,13,19", "--seed=3"});
  const std::string answer = ChatText(rows[0]["tokens"]);
  EXPECT_NE(answer, "");
  const ProgramResult result = converse("\\n hi\\n", {"--chat_format=chatml"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, answer + "\n");
  EXPECT_EQ(result.err, "");

  const ProgramResult second = converse("hi\\nhi\\n", {"--chat_format=chatml"});
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_EQ(second.out, answer + "\n");
  EXPECT_THAT(second.err,
              MatchesRegex("error: the conversation has [0-9]+ tokens, and there is room "
                           "for 32: begin a new one\n"));
  const ProgramResult unknown = converse("hi", {});
  EXPECT_EQ(unknown.exit_code, 1);
  EXPECT_THAT(unknown.err, HasSubstr("there is no chat template"));
  EXPECT_THAT(unknown.err, HasSubstr("--chat_format"));
}

TEST_F(GenerateProgramTest, ChatFlags) {
  UseTokenizer();
  ExpectError({"--chat", "--prompt=hi"}, {"--prompt does not go with --chat"});
  ExpectError({"--system=hi"}, {"--system says how to converse: give --chat too"});
  ExpectError({"--chat", "--tp=2", "--chat_format=chatml"}, {"--chat converses on one rank"});
  ExpectError({"--chat", "--chat_format=none"},
              {"--chat_format: there is no chat format \"none\""});
  ExpectError({"--chat", "--chat_format=chatml"},
              {"--chat_format: the tokenizer has no added token \"<|im_end|>\""});
}

}  // namespace
}  // namespace strake
