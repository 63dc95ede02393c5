// Any error in flags and files: exit code 1, one line on stderr that says what is wrong and where,
// and no file is made or changed.
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tiny_run.h"

namespace strake {
namespace {

using testing::Flags;
using testing::ProgramResult;
using testing::ReadFile;
using testing::ReadTree;
using testing::TinyRun;
using testing::WriteFile;
using testing::operator+;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

void ExpectOneError(const ProgramResult& result, const std::vector<std::string>& parts) {
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, MatchesRegex("error: [^\n]+\n"));
  for (const std::string& part : parts) EXPECT_THAT(result.err, HasSubstr(part));
}

// Expects the error of a run that must not change any file.
void ExpectError(const TinyRun& run, const Flags& flags, const std::vector<std::string>& parts) {
  SCOPED_TRACE(flags.empty() ? "" : flags[0]);
  const auto before = ReadTree(run.path());
  ExpectOneError(run.Train(flags), parts);
  const auto after = ReadTree(run.path());
  EXPECT_TRUE(after == before);
  for (const auto& [name, contents] : after)
    EXPECT_TRUE(before.contains(name)) << name << " is new";
}

std::string Int32s(const std::vector<int32_t>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), 4 * values.size());
}

// A token file in llm.c's format whose header claims `count` tokens.
std::string TokenFile(int32_t magic, int32_t version, int32_t count,
                      const std::vector<uint16_t>& tokens) {
  std::vector<int32_t> header(256);
  header[0] = magic;
  header[1] = version;
  header[2] = count;
  return Int32s(header) +
         std::string(reinterpret_cast<const char*>(tokens.data()), 2 * tokens.size());
}

TEST(BadDataTest, FilesAreNamed) {
  const TinyRun run;
  const std::vector<uint16_t> tokens(200, 7);
  std::vector<uint16_t> large = tokens;
  large[123] = 256;
  WriteFile(run / "empty.txt", "");
  WriteFile(run / "short.txt", "12345678");
  WriteFile(run / "short_tail.txt", std::string(50, 'a'));
  WriteFile(run / "good.bin", TokenFile(20240520, 1, 200, tokens));
  WriteFile(run / "large.bin", TokenFile(20240520, 1, 200, large));
  WriteFile(run / "cut.bin", TokenFile(20240520, 1, 201, tokens));
  WriteFile(run / "long.bin", TokenFile(20240520, 1, 199, tokens));
  WriteFile(run / "negative.bin", TokenFile(20240520, 1, -1, tokens));
  WriteFile(run / "magic.bin", TokenFile(20240521, 1, 200, tokens));
  WriteFile(run / "version.bin", TokenFile(20240520, 9, 200, tokens));
  WriteFile(run / "stub.bin", "1234");
  WriteFile(run / "none.bin", TokenFile(20240520, 1, 0, {}));
  std::filesystem::create_directory(run / "none");
  WriteFile(run / "image.txt", "\x89PNG\r\n\x1a\n" + std::string(200, '\0'));
  WriteFile(run / "squeezed.txt", std::string("\x1f\x8b\x08\0", 4) + std::string(200, 'x'));
  WriteFile(run / "array.txt", "\x93NUMPY" + std::string(200, '\0'));
  WriteFile(run / "tokens.txt", TokenFile(20240520, 1, 200, tokens));
  ASSERT_EQ(run.Train({"--train_data=good.bin"}).exit_code, 0) << "the others differ from this one";
  std::filesystem::remove_all(run / "run");

  struct Case {
    const char* file;
    std::vector<std::string> parts;
  };
  for (const Case& bad : std::vector<Case>{
           {"missing.txt", {"missing.txt", "no such file"}},
           {"missing*.bin", {"missing*.bin", "no file matches"}},
           {"text.txt,", {"entry is empty"}},
           {"none", {"none", "is a directory without files of text or tokens"}},
           {"empty.txt", {"empty.txt", "is empty"}},
           {"stub.bin", {"stub.bin", "has 4 bytes", "1024"}},
           {"none.bin", {"none.bin", "holds no tokens"}},
           {"cut.bin", {"cut.bin", "has 1424 bytes", "201 tokens", "1426"}},
           {"long.bin", {"long.bin", "has 1424 bytes", "199 tokens", "1422"}},
           {"negative.bin", {"negative.bin", "-1"}},
           {"magic.bin", {"magic.bin", "magic", "20240521"}},
           {"version.bin", {"version.bin", "version", "9"}},
           {"image.txt", {"image.txt", "image"}},
           {"squeezed.txt", {"squeezed.txt", "gzip"}},
           {"array.txt", {"array.txt", "NumPy"}},
           {"tokens.txt", {"tokens.txt", "holds tokens", ".bin"}},
           {"large.bin", {"large.bin", "token 256", "offset 123", "vocabulary size 256"}},
       }) {
    ExpectError(run, {std::string("--train_data=") + bad.file},
                std::vector<std::string>{"--train_data: "} + bad.parts);
    ExpectError(run, {std::string("--val_data=") + bad.file},
                std::vector<std::string>{"--val_data: "} + bad.parts);
  }
  ExpectError(run, {"--train_data=short.txt", "--val_data=text.txt"},
              {"the training data has 8 tokens", "one sample takes 9", "sequence length 8"});
  ExpectError(run, {"--val_data=short.txt"},
              {"the validation data has 8 tokens", "one sample takes 9"});
  ExpectError(run, {"--train_data=short_tail.txt"},
              {"held back for validation, has 5 tokens", "one sample takes 9"});
}

TEST(BadDataTest, TextNeedsTheModelsTokenizer) {
  const TinyRun run;
  std::string config = ReadFile(run / "llama.json");
  config.replace(config.find("256"), 3, "300");
  WriteFile(run / "words.json", config);
  WriteFile(run / "docs.jsonl", "{\"text\": \"a plank\"}\n{\"text\": \n");
  const Flags words = {"--model=./words.json"};
  ExpectError(run, words,
              {"--train_data: data file text.txt: is text", "300 tokens",
               "no tokenizer; give its tokenizer by --tokenizer, or token files"});
  ExpectError(run, words + Flags{"--tokenizer=none"}, {"--tokenizer: ", "none"});
  std::filesystem::create_directory(run / "tok");
  WriteFile(run / "tok/tokenizer.json", R"({"model": {"type": "Unigram"}})");
  ExpectError(run, words + Flags{"--tokenizer=tok"}, {"--tokenizer: ", "tok", "Unigram"});
  // A model of bytes has documents of bytes.
  ExpectError(run, {"--train_data=docs.jsonl"},
              {"--train_data: ", "docs.jsonl", "2", "give --skip_bad_lines"});
  ExpectError(run, {"--eval_tasks=docs.jsonl"}, {"--eval_tasks: ", "docs.jsonl"});
  ExpectError(run, {"--epochs=1", "--steps=3"}, {"--steps=3", "--epochs=1", "give one"});
}

// A safetensors file from its header and data.
std::string Safetensors(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
}

class BadWeightsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(run_.Train({"--steps=1"}).exit_code, 0);
    std::filesystem::rename(run_ / "run/step-1", run_ / "hf");
    std::filesystem::remove_all(run_ / "run");
    // Stands for another program's model: the tests change its files.
    std::filesystem::remove(run_ / "hf/manifest.json");
    const std::string file = ReadFile(run_ / "hf/model.safetensors");
    uint64_t length;
    std::memcpy(&length, file.data(), 8);
    header_ = nlohmann::ordered_json::parse(file.substr(8, length));
    data_ = file.substr(8 + length);
  }

  void ExpectWeightsError(const std::string& file, const std::vector<std::string>& parts) {
    WriteFile(run_ / "hf/model.safetensors", file);
    ExpectError(run_, {"--init_from=hf"}, parts);
  }
  void ExpectHeaderError(const nlohmann::ordered_json& header,
                         const std::vector<std::string>& parts) {
    ExpectWeightsError(Safetensors(header.dump(), data_), parts);
  }

  const std::string norm_ = "model.norm.weight";  // [16]
  const TinyRun run_;
  nlohmann::ordered_json header_;
  std::string data_;
};

TEST_F(BadWeightsTest, HeaderLength) {
  const std::string good = Safetensors(header_.dump(), data_);
  const auto with_length = [&](uint64_t length) {
    std::string file = good;
    std::memcpy(file.data(), &length, 8);
    return file;
  };
  const std::string path = "hf/model.safetensors";
  ExpectWeightsError("", {path, "0 bytes are too few"});
  ExpectWeightsError(good.substr(0, 7), {path, "7 bytes are too few"});
  ExpectWeightsError(with_length(0), {path, "header length 0"});
  ExpectWeightsError(with_length(good.size()), {path, "header length"});
  ExpectWeightsError(with_length(std::numeric_limits<uint64_t>::max()),
                     {path, "header length 18446744073709551615"});
  ExpectWeightsError(with_length(20), {path, "bad JSON"});
  // Sparse: only the size matters.
  WriteFile(run_ / "hf/model.safetensors", with_length(100'000'001));
  ASSERT_EQ(truncate((run_ / "hf/model.safetensors").c_str(), 110'000'000), 0);
  ExpectOneError(run_.Train({"--init_from=hf"}), {path, "header length 100000001", "100 MB"});
}

TEST_F(BadWeightsTest, Offsets) {
  auto header = header_;
  auto& offsets = header[norm_]["data_offsets"];
  const int64_t begin = offsets[0], end = offsets[1];
  offsets = {begin - 4, end - 4};
  ExpectHeaderError(header, {norm_, "inside another tensor"});
  offsets = {begin, end + int64_t(data_.size())};
  ExpectHeaderError(header, {norm_, "not a range of the"});
  offsets = {end, begin};
  ExpectHeaderError(header, {norm_, "not a range of the"});
  offsets = {-4, end};
  ExpectHeaderError(header, {norm_, "-4"});
  ExpectWeightsError(Safetensors(header_.dump(), data_ + "1234"), {"the tensors cover"});
  ExpectWeightsError(Safetensors(header_.dump(), data_.substr(4)), {"not a range of the"});
}

TEST_F(BadWeightsTest, Tensors) {
  auto header = header_;
  header[norm_]["shape"] = {4, 4};
  ExpectHeaderError(header, {norm_, "has shape [4, 4]", "needs [16]"});
  header[norm_]["shape"] = {17};
  ExpectHeaderError(header, {norm_, "68 bytes", "hold 64"});
  header = header_;
  header[norm_]["dtype"] = "I32";
  ExpectHeaderError(header, {norm_, "I32"});
  header[norm_]["dtype"] = "F12";
  ExpectHeaderError(header, {norm_, "unknown dtype \"F12\""});
  header = header_;
  header["extra.weight"] = header[norm_];
  header.erase(norm_);
  ExpectHeaderError(header, {norm_, "is missing"});
  header = header_;
  header["extra.weight"] = {
      {"dtype", "F32"}, {"shape", {1}}, {"data_offsets", {data_.size(), data_.size() + 4}}};
  ExpectWeightsError(Safetensors(header.dump(), data_ + "1234"), {"extra.weight", "not one of"});
  std::string twice = header_.dump();
  twice.insert(1, "\"" + norm_ + "\":" + header_[norm_].dump() + ",");
  ExpectWeightsError(Safetensors(twice, data_), {"duplicate key", norm_});
}

TEST_F(BadWeightsTest, MissingFilesAndBadIndex) {
  ExpectError(run_, {"--init_from=nowhere"}, {"--init_from=nowhere", "no such directory"});
  std::filesystem::remove(run_ / "hf/model.safetensors");
  ExpectError(run_, {"--init_from=hf"}, {"hf", "neither model.safetensors nor"});
  WriteFile(run_ / "hf/model.safetensors.index.json", R"({"weight_map": {"a": "../x"}})");
  ExpectError(run_, {"--init_from=hf"}, {"model.safetensors.index.json", "../x"});
  WriteFile(run_ / "hf/model.safetensors.index.json", R"({"weight_map": {"a": "b.safetensors"}})");
  ExpectError(run_, {"--init_from=hf"}, {"b.safetensors"});
}

TEST_F(BadWeightsTest, NanWeightsStopTheFirstStep) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const int64_t begin = header_[norm_]["data_offsets"][0];
  std::memcpy(data_.data() + begin + 4, &nan, 4);
  WriteFile(run_ / "hf/model.safetensors", Safetensors(header_.dump(), data_));
  for (const Flags& layout : std::vector<Flags>{{}, {"--tp=2", "--dp=2"}, {"--dp=3", "--zero=2"}}) {
    ExpectOneError(run_.Train(Flags{"--init_from=hf"} + layout),
                   {"step 1: ", "the loss is nan", "weight model.norm.weight, element 1",
                    "There is no checkpoint yet"});
    std::filesystem::remove_all(run_ / "run");
  }
}

// "hf" is a base, and "adapter" an adapter beside it, as another program would write it.
class BadAdapterTest : public BadWeightsTest {
 protected:
  void SetUp() override {
    BadWeightsTest::SetUp();
    MakeAdapter({"--init_from=hf"}, "adapter");
  }
  void MakeAdapter(const Flags& flags, const std::string& name) const {
    const ProgramResult made = run_.Train(flags + Flags{"--lora_rank=2", "--steps=1", "--out=x"});
    ASSERT_EQ(made.exit_code, 0) << made.err;
    std::filesystem::rename(run_ / "x/step-1", run_ / name);
    for (const char* file : {"x", "/manifest.json", "/run.json", "/optimizer.safetensors"}) {
      std::filesystem::remove_all(run_ / (file[0] == '/' ? name + file : file));
    }
  }
  // The programs that begin with an adapter or merge it.
  void ExpectErrors(const std::string& adapter, const std::vector<std::string>& parts,
                    const std::string& base = "hf") const {
    const std::string checkpoint = "--checkpoint=" + adapter, base_model = "--base_model=" + base;
    ExpectError(
        run_,
        {"--init_from=" + base, "--init_adapter=" + adapter, "--model=" + base + "/config.json"},
        parts);
    for (const auto& [program, flag] :
         std::vector<std::pair<std::string, std::string>>{{"tools/generate", "--max_tokens=1"},
                                                          {"tools/evaluate", "--data=text.txt"},
                                                          {"tools/export", "--out=merged"}}) {
      SCOPED_TRACE(program);
      ExpectOneError(run_.Run(program, {checkpoint, base_model, flag}), parts);
    }
    EXPECT_FALSE(std::filesystem::exists(run_ / "merged"));
  }
};

TEST_F(BadAdapterTest, OfAnotherModel) {
  const std::string file = "adapter/adapter_model.safetensors";
  auto config = nlohmann::json::parse(ReadFile(run_ / "hf/config.json"));
  const auto make_base = [&](const Flags& flags) {
    std::filesystem::remove_all(run_ / "base");
    ASSERT_EQ(run_.Train(flags + Flags{"--steps=1", "--out=x"}).exit_code, 0);
    std::filesystem::rename(run_ / "x/step-1", run_ / "base");
    std::filesystem::remove_all(run_ / "x");
  };
  make_base({"--model=./gpt2.json"});
  ExpectErrors("adapter", {"adapter", "no linear layer \"q_proj\"", "c_attn"}, "base");
  config["num_hidden_layers"] = 2;
  WriteFile(run_ / "deep.json", config.dump());
  make_base({"--model=./deep.json"});
  ExpectErrors("adapter", {file, "layers.1.", "is missing"}, "base");
  config["num_hidden_layers"] = 1;
  config["intermediate_size"] = 48;
  WriteFile(run_ / "wide.json", config.dump());
  make_base({"--model=./wide.json"});
  ExpectErrors("adapter", {file, "mlp.gate_proj.lora_B", "[32, 2]", "[48, 2]"}, "base");
}

TEST_F(BadAdapterTest, FilesThatAreBroken) {
  const std::string weights = "adapter/adapter_model.safetensors";
  const std::string config = "adapter/adapter_config.json";
  const std::string good = ReadFile(run_ / weights), good_config = ReadFile(run_ / config);
  const auto with = [&](const char* key, const nlohmann::json& value) {
    auto changed = nlohmann::json::parse(good_config);
    changed[key] = value;
    return changed.dump();
  };
  WriteFile(run_ / weights, good.substr(0, good.size() - 4));
  ExpectErrors("adapter", {weights, "not a range of the"});
  WriteFile(run_ / weights, good);
  WriteFile(run_ / config, with("r", 3));
  ExpectErrors("adapter", {weights, "q_proj.lora_A", "[2, 16]", "[3, 16]"});
  WriteFile(run_ / config, with("r", -1));
  ExpectErrors("adapter", {config, "\"r\" is -1"});
  WriteFile(run_ / config, with("use_dora", true));
  ExpectErrors("adapter", {config, "\"use_dora\" is true", "merge_and_unload()"});
  WriteFile(run_ / config, "{");
  ExpectErrors("adapter", {config, "bad JSON"});
  WriteFile(run_ / config, good_config);
  std::filesystem::remove(run_ / weights);
  ExpectErrors("adapter", {weights, "No such file"});
}

// The training text holds no 'Z': its embedding is read in the validation alone.
TEST_F(BadWeightsTest, NonFiniteValidationStops) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const int64_t begin = header_["model.embed_tokens.weight"]["data_offsets"][0];
  std::memcpy(data_.data() + begin + 4 * 16 * 'Z', &nan, 4);
  WriteFile(run_ / "hf/model.safetensors", Safetensors(header_.dump(), data_));
  WriteFile(run_ / "z.txt", std::string(100, 'Z'));
  ExpectOneError(
      run_.Train({"--init_from=hf", "--val_data=z.txt", "--eval_every=2", "--save_every=1"}),
      {"step 2: ", "the loss is nan", "weight model.embed_tokens.weight, element 1440",
       "The last checkpoint is run/step-2"});
  EXPECT_TRUE(std::filesystem::exists(run_ / "run/step-2"));
  EXPECT_FALSE(std::filesystem::exists(run_ / "run/step-3"));
}

TEST(BadCheckpointTest, DamageIsNamedAndNothingChanges) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--save_every=4", "--keep_last=0"}).exit_code, 0);
  const std::string last = run / "run/step-8/";
  for (const auto& [file, part] :
       std::vector<std::pair<std::string, std::string>>{{"optimizer.safetensors", "has 0 bytes"},
                                                        {"model.safetensors", "has 0 bytes"},
                                                        {"run.json", "bad JSON"}}) {
    const std::string good = ReadFile(last + file);
    WriteFile(last + file, "");
    ExpectError(run, {"--steps=9"}, {"run/step-8/" + file, part});
    WriteFile(last + file, good);
  }
  WriteFile(run / "run/run.json", "{}");
  ExpectError(run, {"--steps=9"}, {"run/run.json", "format_version"});
  ExpectError(run, {"--out=new", "--resume=nowhere"},
              {"--resume=nowhere: there is no such directory"});
}

TEST(BadConfigTest, KeysAndValuesAreNamed) {
  const TinyRun run;
  struct Case {
    const char* family;
    const char* patch;
    std::vector<std::string> parts;
  };
  for (const Case& bad : std::vector<Case>{
           {"llama", R"({"vocab_size": null})", {"\"vocab_size\" is missing"}},
           {"llama", R"({"hidden_size": 17})", {"\"hidden_size\" 17 is not a multiple"}},
           {"llama", R"({"num_key_value_heads": 3})", {"2 is not a multiple", "3"}},
           {"llama", R"({"num_hidden_layers": -1})", {"\"num_hidden_layers\" is -1"}},
           {"llama", R"({"num_hidden_layers": 1.5})", {"\"num_hidden_layers\" is 1.5"}},
           {"llama", R"({"num_hidden_layers": 100000000})", {"100000000 is above 16384"}},
           {"llama", R"({"hidden_size": 1e30})", {"\"hidden_size\" is 1e+30"}},
           {"llama", R"({"head_dim": 1000000000})", {"of memory but"}},
           {"llama", R"({"vocab_size": 2000000000})", {"of memory but"}},
           {"llama", R"({"intermediate_size": 2147483647})", {"of memory but"}},
           {"llama", R"({"attention_bias": 1})", {"\"attention_bias\" is 1"}},
           {"llama", R"({"hidden_act": "mish"})", {"\"hidden_act\" is \"mish\"; supported"}},
           {"llama",
            R"({"model_type": "deepseek_v3", "kv_lora_rank": 8})",
            {"\"model_type\" is \"deepseek_v3\"", "\"kv_lora_rank\" 8", "latent attention"}},
           {"llama",
            R"({"model_type": "mamba", "state_size": 16})",
            {"\"model_type\" is \"mamba\"", "\"state_size\" 16", "state-space layers"}},
           {"llama",
            R"({"model_type": "bert", "type_vocab_size": 2})",
            {"\"model_type\" is \"bert\"", "\"type_vocab_size\" 2", "an encoder"}},
           {"llama",
            R"({"model_type": "t5", "is_encoder_decoder": true})",
            {"\"model_type\" is \"t5\"", "an encoder beside the decoder"}},
           {"llama",
            R"({"model_type": "mixtral", "num_local_experts": 8})",
            {"\"model_type\" is \"mixtral\"", "\"num_local_experts\" 8", "experts"}},
           {"llama",
            R"({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}})",
            {"\"model_type\" is \"gemma3\"", "its text part is \"text_config\""}},
           {"llama",
            R"({"quantization_config": {"bits": 4}})",
            {"\"quantization_config\" is {\"bits\":4}", "quantized weights"}},
           {"llama",
            R"({"model_type": "mistral", "sliding_window": 0, "architectures": null})",
            {"\"sliding_window\" is 0"}},
           {"gpt2", R"({"n_head": 3})", {"16 is not a multiple", "3"}},
           {"gpt2",
            R"({"num_hidden_layers": 3})",
            {"\"n_layer\" is 1 but \"num_hidden_layers\" is 3"}},
           {"gpt2", R"({"n_positions": 1000000000000})", {"not in [1, 2147483648)"}},
           {"gpt2", R"({"architectures": ["BertModel"]})", {"\"architectures\"", "BertModel"}},
       }) {
    nlohmann::json config = nlohmann::json::parse(testing::TinyConfig(bad.family));
    config.merge_patch(nlohmann::json::parse(bad.patch));
    WriteFile(run / "bad.json", config.dump());
    SCOPED_TRACE(bad.patch);
    ExpectError(run, {"--model=./bad.json"}, bad.parts);
    // //tools:benchmark reads the same file.
    ExpectOneError(run.Run("tools/benchmark", {"--model=bad.json", "--seq_len=8", "--threads=1"}),
                   bad.parts);
  }
  WriteFile(run / "bad.json", "{\"model_type\": \n\"llama\",,}");
  ExpectError(run, {"--model=bad.json"}, {"bad.json: bad JSON", "line 2"});
  ExpectError(run, {"--model=none.json"}, {"none.json", "cannot be read"});
  ExpectError(run, {"--model=gpt2-125m"}, {"\"gpt2-125m\"", "gpt2-124m"});
  ExpectError(run, {"--model=a\nb"}, {"a b"});
}

TEST(BadSizesTest, ContradictionsBetweenFlags) {
  const TinyRun run;
  ExpectError(run, {"--model=./gpt2.json", "--seq_len=33"},
              {"--seq_len=33", "the model's 32 positions"});
  ExpectError(run, {"--global_batch=10"}, {"--global_batch=10", "--micro_batch=4"});
  ExpectError(run, {"--min_lr=1"}, {"--min_lr=1", "--lr=0.003"});
  ExpectError(run, {"--micro_batch=1000000000", "--seq_len=1000000000"},
              {"--micro_batch=1000000000", "--seq_len=1000000000"});
}

TEST(BadLayoutTest, NumbersAndWhatWouldFit) {
  const TinyRun run;
  auto config = nlohmann::json::parse(testing::TinyConfig());
  config.merge_patch({{"hidden_size", 24},
                      {"num_attention_heads", 12},
                      {"num_key_value_heads", 4},
                      {"intermediate_size", 44}});
  WriteFile(run / "grouped.json", config.dump());
  const std::string grouped = "--model=grouped.json";
  struct Case {
    Flags flags;
    std::vector<std::string> parts;
  };
  for (const Case& bad : std::vector<Case>{
           {{"--tp=5", grouped}, {"--tp=5", "12 query heads", "--tp may be 1, 2, 4\n"}},
           {{"--tp=6", grouped}, {"--tp=6", "4 key/value heads", "--tp may be 1, 2, 4\n"}},
           {{"--tp=12", grouped}, {"--tp=12", "44 intermediate", "--tp may be 1, 2, 4\n"}},
           {{"--tp=4", "--sequence_parallel", "--seq_len=6", grouped},
            {"--seq_len=6", "--tp=4", "--tp may be 1, 2\n"}},
           {{"--dp=3", "--global_batch=8"},
            {"--global_batch=8", "--micro_batch=4 times --dp=3, 12", "--dp may be 1, 2\n"}},
           {{"--dp=2", "--global_batch=4"}, {"--micro_batch may be 1, 2, or --dp may be 1\n"}},
           {{"--dp=3", "--global_batch=7"}, {"--global_batch may be 12\n"}},
           {{"--zero=3"}, {"--zero=3: must be an integer in [0, 2]"}},
           {{"--zero=-1"}, {"--zero=-1: must be"}},
           {{"--tp=0"}, {"--tp=0: must be an integer in [1, 4096]"}},
           {{"--dp=4097"}, {"--dp=4097: must be"}},
           {{"--comm=tcp"}, {"--comm=tcp: must be one of threads, mpi, nccl"}},
           {{"--comm_timeout=0"}, {"--comm_timeout=0: must be"}},
           {{"--dp=4096"}, {"4096 ranks", "at most 1024", "up to 1024", "--comm=mpi"}},
           {{"--dp=1024", "--model=gpt2-124m", "--tp=1"},
            {"the run needs more than ", "iB are free", "choose a smaller --model, --dp, "}},
           {{"--cp=512", "--model=gpt2-124m", "--tp=1", "--seq_len=1024"},
            {"the run needs more than ", "iB are free", "choose a smaller --model, --cp, "}},
       }) {
    ExpectError(run, bad.flags, bad.parts);
  }
}

TEST(BadLayoutTest, GeneratorsToo) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--steps=1"}).exit_code, 0);
  const auto generate = [&](const std::string& flag) {
    return run.Run("tools/generate", {"--checkpoint=run", "--max_tokens=1", flag});
  };
  ExpectOneError(generate("--tp=3"), {"--tp=3", "2 query heads", "--tp may be 1, 2\n"});
  ExpectOneError(generate("--dp=2000"), {"2000 ranks", "at most 1024"});
}

// Every rank finds the same damage: it is printed once.
TEST(BadLayoutTest, CheckpointOfAnotherModel) {
  const TinyRun run;
  const Flags sliced = {"--tp=2", "--dp=2", "--micro_batch=2", "--global_batch=4", "--zero=1"};
  ASSERT_EQ(run.Train(sliced).exit_code, 0);
  auto config = nlohmann::json::parse(testing::TinyConfig());
  config["hidden_size"] = 32;
  WriteFile(run / "wide.json", config.dump());
  ExpectError(run, Flags{"--model=wide.json", "--init_from=run/step-8", "--out=new"} + sliced,
              {"run/step-8/model.safetensors", "[256, 16]", "[256, 32]"});
  ExpectError(run, Flags{"--model=wide.json", "--resume=run/step-8", "--out=new"} + sliced,
              {"run/step-8 holds another run", "hidden_size is 16 there, 32 here"});
  ExpectError(run, Flags{"--model=wide.json"} + sliced, {"--out=run holds another run"});
  const std::string good = ReadFile(run / "run/step-8/config.json");
  WriteFile(run / "run/step-8/config.json", config.dump());
  ExpectOneError(run.Run("tools/generate", {"--checkpoint=run", "--max_tokens=1", "--tp=2"}),
                 {"run/step-8/model.safetensors", "[256, 16]", "[256, 32]"});
  ExpectError(run, Flags{"--steps=9"} + sliced, {"run/step-8/config.json", "was written with"});
  WriteFile(run / "run/step-8/config.json", good);
  WriteFile(run / "run/step-8/optimizer.safetensors", "");
  ExpectError(run, Flags{"--steps=9"} + sliced,
              {"run/step-8/optimizer.safetensors", "has 0 bytes"});
}

TEST(BadLayoutTest, BatchOfAnotherDivisionIsThatOfTheRun) {
  const TinyRun run;
  ASSERT_EQ(run.Train().exit_code, 0);
  ExpectError(run, {"--dp=2"},
              {"--global_batch=4 is not a multiple of --micro_batch=4 times --dp=2, 8",
               "--micro_batch may be 1, 2, or --dp may be 1", "that of the run in run"});
  const ProgramResult halves = run.Train({"--dp=2", "--micro_batch=2", "--steps=9"});
  EXPECT_EQ(halves.exit_code, 0) << halves.err;
  EXPECT_EQ(testing::ReadMetrics(run / "run").back().at("tokens"), 4 * 8);
}

TEST(BadSizesTest, PlansAboveTheMemoryAreRefusedWithBothFigures) {
  const TinyRun run;
  const std::vector<std::string> figures = {"the run needs ", "iB of memory", "iB are free"};
  ExpectError(run, {"--model=llama-3-8b", "--micro_batch=100000"}, figures);
  ExpectError(run, {"--micro_batch=100000000"}, figures);
  for (const Flags& flags :
       std::vector<Flags>{{"--micro_batch=100000000"},
                          {"--seq_len=1000000000"},
                          {"--seq_len=1000000000", "--micro_batch=1000000000"}}) {
    ExpectOneError(run.Run("tools/benchmark", Flags{"--model=llama-tiny", "--threads=1"} + flags),
                   figures);
  }
  ASSERT_EQ(run.Train().exit_code, 0);
  auto config = nlohmann::json::parse(ReadFile(run / "run/step-8/config.json"));
  config["max_position_embeddings"] = 2000000000;
  WriteFile(run / "run/step-8/config.json", config.dump());
  ExpectOneError(run.Run("tools/generate", {"--checkpoint=run", "--max_tokens=1000000000"}),
                 {"1000000001 tokens need ", "iB are free"});
}

TEST(BadFlagsTest, ValuesOutOfRange) {
  const TinyRun run;
  const Flags bad_flags = {
      "--seq_len=0",        "--seq_len=-1",
      "--seq_len=1.5",      "--seq_len=1e3",
      "--seq_len=",         "--seq_len=99999999999999999999",
      "--micro_batch=0",    "--micro_batch=-4",
      "--global_batch=-4",  "--steps=0",
      "--steps=-1",         "--steps=9223372036854775808",
      "--lr=-0.1",          "--lr=nan",
      "--lr=inf",           "--lr=1e999",
      "--lr=fast",          "--min_lr=-1",
      "--warmup_steps=-1",  "--weight_decay=-1",
      "--weight_decay=nan", "--beta1=1",
      "--beta1=-0.1",       "--beta2=1",
      "--beta2=nan",        "--eps=0",
      "--eps=1e-50",        "--clip_norm=-1",
      "--clip_norm=inf",    "--seed=-1",
      "--threads=-1",       "--threads=5000",
      "--eval_every=-1",    "--eval_batches=-2",
      "--sample_every=-1",  "--save_every=-1",
      "--log_every=-2",     "--keep_last=-1",
      "--shuffle=maybe",    "--sequence_parallel=2",
      "--comm_check=maybe", "--schedule=sawtooth",
      "--dtype=fp64",       "--ops=fast",
  };
  for (const std::string& flag : bad_flags) ExpectError(run, {flag}, {flag, "must be"});
  ExpectError(run, {"--dtype=bf16", "--ops=reference"}, {"--ops=reference runs in fp32"});
  ExpectError(run, {"--steps"}, {"--steps lacks its value"});
  ExpectError(run, {"steps=3"}, {"\"steps=3\" is not a flag"});
  ExpectError(run, {"--seqlen=8"}, {"--seqlen", "the nearest is --seq_len"});
}

TEST(BadFlagsTest, ConfigFiles) {
  const TinyRun run;
  ExpectError(run, {"--config=none.json"}, {"--config=none.json", "cannot be read"});
  for (const auto& [text, part] : std::vector<std::pair<std::string, std::string>>{
           {"", "bad JSON"},
           {"{", "bad JSON"},
           {"[]", "not a JSON object"},
           {R"({"seqlen": 8})", "unknown key \"seqlen\"; the nearest is \"seq_len\""},
           {R"({"config": "x"})", "unknown key \"config\""},
           {R"({"seq_len": -8})", "\"seq_len\" is -8"},
           {R"({"seq_len": 8.5})", "\"seq_len\" is 8.5"},
           {R"({"seq_len": 8, "seq_len": 9})", "duplicate key \"seq_len\""},
           {R"({"lr": 1e999})", "bad JSON"},
           {R"({"lr": NaN})", "bad JSON"}}) {
    WriteFile(run / "bad.json", text);
    SCOPED_TRACE(text);
    ExpectError(run, {"--config=bad.json"}, {"bad.json", part});
  }
}

TEST(BadOutTest, FoldersThatCannotBeMade) {
  const TinyRun run;
  ExpectError(run, {"--out=text.txt/run"}, {"text.txt"});
  ExpectError(run, {"--out=text.txt"}, {"text.txt"});
  ExpectError(run, {"--out=" + std::string(300, 'x')}, {"File name too long"});
}

class FullDiskTest : public ::testing::TestWithParam<Flags> {};

TEST_P(FullDiskTest, TheLastCheckpointStaysAndTheRunGoesOn) {
  const TinyRun run, whole;
  const Flags flags = GetParam() + Flags{"--save_every=4", "--keep_last=0"};
  ASSERT_EQ(whole.Train(flags).exit_code, 0);
  ASSERT_EQ(run.Train(flags).exit_code, 0);
  std::filesystem::remove_all(run / "run/step-8");
  auto checkpoint = ReadTree(run / "run/step-4");
  // The limit allows the log and config.json, but not the weights.
  auto options = run.Here();
  options.max_file_bytes = 20000;
  const ProgramResult full = RunProgram("tools/train", TinyRun::BaseFlags() + flags, options);
  ExpectOneError(full, {"step-8", "File too large"});
  EXPECT_TRUE(ReadTree(run / "run/step-4") == checkpoint);
  EXPECT_FALSE(std::filesystem::exists(run / "run/step-8"));
  EXPECT_FALSE(std::filesystem::exists(run / "run/step-8.tmp"));
  // The limit does not even allow the log.
  options.max_file_bytes = 400;
  ExpectOneError(RunProgram("tools/train", TinyRun::BaseFlags() + flags, options),
                 {"File too large"});
  EXPECT_TRUE(ReadTree(run / "run/step-4") == checkpoint);
  ASSERT_EQ(run.Train(flags).exit_code, 0);
  EXPECT_TRUE(ReadTree(run / "run/step-8") == ReadTree(whole / "run/step-8"));
  EXPECT_EQ(testing::TimelessMetrics(run / "run"), testing::TimelessMetrics(whole / "run"));
}

INSTANTIATE_TEST_SUITE_P(Layouts, FullDiskTest,
                         ::testing::Values(Flags{}, Flags{"--tp=2", "--dp=2", "--micro_batch=2"}));

TEST(NonFiniteTest, StopsAndKeepsTheLastCheckpoint) {
  const TinyRun run;
  // Decay multiplies the weights by 1e12 in each step.
  const Flags diverging = {"--lr=1e6",           "--weight_decay=1e6", "--clip_norm=0",
                           "--warmup_steps=0",   "--save_every=1",     "--keep_last=0",
                           "--schedule=constant"};
  const ProgramResult result = run.Train(diverging);
  ExpectOneError(result, {"step ", "first tensor that is not finite is ", "stopped",
                          "The last checkpoint is run/step-"});
  const size_t done = testing::ReadMetrics(run / "run").size();
  EXPECT_GE(done, 1);
  EXPECT_LT(done, 8);
  EXPECT_THAT(result.err, AllOf(HasSubstr("step " + std::to_string(done + 1) + ": "),
                                HasSubstr("run/step-" + std::to_string(done))));
  EXPECT_TRUE(std::filesystem::exists(run / ("run/step-" + std::to_string(done) + "/run.json")));
}

TEST(BadGenerateTest, ErrorsAreNamed) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--model=./gpt2.json"}).exit_code, 0);
  std::filesystem::create_directory(run / "nothing");
  struct Case {
    Flags flags;
    std::vector<std::string> parts;
  };
  for (const Case& bad : std::vector<Case>{
           {{"--checkpoint=nowhere"}, {"--checkpoint=nowhere", "no such directory"}},
           {{"--checkpoint=nothing"}, {"--checkpoint=nothing", "neither"}},
           {{"--checkpoint=" + std::string(300, 'x')}, {"File name too long"}},
           {{"--checkpoint=run", "--prompt="}, {"--prompt is empty"}},
           {{"--checkpoint=run", "--prompt=" + std::string(33, 'x')},
            {"33 tokens", "32 positions"}},
           {{"--checkpoint=run", "--max_tokens=0"}, {"--max_tokens=0", "must be"}},
           {{"--checkpoint=run", "--temperature=-1"}, {"--temperature=-1", "must be"}},
           {{"--checkpoint=run", "--temperature=nan"}, {"--temperature=nan", "must be"}},
           {{"--checkpoint=run", "--top_p=0"}, {"--top_p=0", "must be"}},
           {{"--checkpoint=run", "--top_p=1.1"}, {"--top_p=1.1", "must be"}},
           {{"--checkpoint=run", "--top_k=-1"}, {"--top_k=-1", "must be"}},
           {{"--checkpoint=run", "--prompt_tokens=1,256"}, {"\"256\"", "0 to 255"}},
           {{"--checkpoint=run", "--prompt_tokens=1,x"}, {"\"x\"", "0 to 255"}},
           {{"--checkpont=run"}, {"--checkpont", "the nearest is --checkpoint"}},
       }) {
    SCOPED_TRACE(bad.parts[0]);
    ExpectOneError(run.Run("tools/generate", bad.flags), bad.parts);
  }
}

TEST(BadBenchmarkTest, ErrorsAreNamed) {
  const TinyRun run;
  for (const auto& [flag, part] : std::vector<std::pair<std::string, std::string>>{
           {"--model=gpt3", "\"gpt3\""},
           {"--steps=0", "--steps=0: must be"},
           {"--micro_batch=-1", "--micro_batch=-1: must be"},
           {"--seq_len=33", "--seq_len=33 is above the model's 32 positions"},
           {"--dtype=fp16", "--dtype=fp16: must be"},
           {"--threads=-1", "--threads=-1: must be"},
           {"--step=3", "the nearest is --steps"}}) {
    SCOPED_TRACE(flag);
    ExpectOneError(run.Run("tools/benchmark", {"--model=./gpt2.json", "--seq_len=8", flag}),
                   {part});
  }
}

TEST(BadReportTest, ErrorsAreNamed) {
  const TinyRun run;
  for (const char* name : {"good", "empty", "text", "new"}) {
    std::filesystem::create_directory(run / name);
  }
  const std::string line = "{\"step\":1,\"loss\":2}\n";
  WriteFile(run / "good/metrics.jsonl", line);
  WriteFile(run / "text/metrics.jsonl", "step 1, loss 2\n");
  WriteFile(run / "empty/metrics.jsonl", "");
  WriteFile(run / "new/metrics.jsonl", line);
  WriteFile(run / "new/run.json", "{\"format_version\":99}");
  std::filesystem::create_directory_symlink("good", run / "linked");
  struct Case {
    Flags flags;
    std::vector<std::string> parts;
  };
  for (const Case& bad : std::vector<Case>{
           {{}, {"the folder of a run is missing"}},
           {{"nowhere"}, {"nowhere", "has no metrics.jsonl"}},
           {{"good", "."}, {"has no metrics.jsonl"}},
           {{"empty"}, {"empty/metrics.jsonl", "no line of a step"}},
           {{"text"}, {"text/metrics.jsonl", "no line of a step"}},
           {{"new"}, {"new/run.json", "format_version"}},
           {{"good", "good/"}, {"the run good/ is named twice, the first time as good"}},
           {{"./good", "--out=a.html", "good"}, {"good is named twice, the first time as ./good"}},
           {{"linked", "good"}, {"good is named twice, the first time as linked"}},
           {{"good", "good"}, {"the run good is named twice"}},
           {{"good", ""}, {"run 2 is \"\", and must be a folder"}},
           {{"good", "--out=good/metrics.jsonl"}, {"--out=good/metrics.jsonl", ".html"}},
           {{"good", "--out=nowhere/page.html"}, {"--out", "nowhere/page.html"}},
           {{"good", "--outt=a.html"}, {"--outt", "the nearest is --out"}},
       }) {
    SCOPED_TRACE(bad.parts[0]);
    const auto before = ReadTree(run.path());
    ExpectOneError(run.Run("tools/report", bad.flags), bad.parts);
    EXPECT_TRUE(ReadTree(run.path()) == before);
  }
  for (const Flags& flags : {Flags{"good", "--out=page.html"}, Flags{"--out=page.html", "good"},
                             Flags{"--out", "page.html", "./good/"}}) {
    EXPECT_EQ(run.Run("tools/report", flags).exit_code, 0);
    EXPECT_TRUE(std::filesystem::remove(run / "page.html"));
  }
}

TEST(BadScheduleTest, WhatCannotBeDrawnIsAnError) {
  const TinyRun run;
  const auto expect_error = [&](const Flags& flags, const std::string& part) {
    SCOPED_TRACE(part);
    ExpectOneError(run.Run("tools/schedule", flags), {part});
  };
  expect_error({"--pp=1024", "--micro_batches=1024"},
               "--pp=1024, --pp_chunks=1 and --micro_batches=1024 make 1048576 forward passes");
  expect_error({"--forward=0"}, "--forward=0: must be a finite number in (0, 100]");
  expect_error({"--transfer=1e300"}, "--transfer=1e300: must be a finite number in [0, 100]");
  for (const char* format : {"text", "svg"}) {
    expect_error({"--forward=1e-9", std::string("--format=") + format},
                 "the picture would have 5.7e+10 columns, more than 1e+06");
  }
  EXPECT_EQ(run.Run("tools/schedule", {"--forward=1e-9", "--format=json"}).exit_code, 0);
}

}  // namespace
}  // namespace strake
