// //tools:export as a user runs it: what it writes and says, and how it ends.
#include <fcntl.h>
#include <sys/file.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/dtype.h"
#include "core/base/file_descriptor.h"
#include "core/base/half.h"
#include "data/tokenizer/formats/tokenizer_json_writer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/checkpoint/safetensors.h"
#include "models/families/families.h"
#include "models/gguf/gguf_reader.h"
#include "nlohmann/json.hpp"
#include "tests/tiny_run.h"
#include "tools/cli/user_paths.h"

namespace strake {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::Flags;
using testing::GgufFile;
using testing::ProgramOptions;
using testing::ProgramResult;
using testing::ReadFile;
using testing::ReadTree;
using testing::TempDirectory;
using testing::WriteFile;
using testing::operator+;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;

using Tensors = std::map<std::string, std::vector<float>>;

// The tensors of all files of a folder, which must have that dtype.
Tensors ReadTensors(const std::string& folder, SafetensorsDType dtype) {
  Tensors tensors;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    const auto file = SafetensorsFile::Open(entry.path());
    CHECK(file.ok()) << file.status();
    for (const SafetensorsEntry& tensor : file->entries()) {
      EXPECT_EQ(tensor.dtype, dtype) << tensor.name;
      std::vector<float>& values = tensors[tensor.name];
      values.resize(NumElements(tensor.shape));
      CHECK(file->ReadF32(tensor, 0, values.size(), values.data()).ok());
    }
  }
  return tensors;
}

// A folder with "model", a small model of bytes and its files.
class ExportProgramTest : public ::testing::Test {
 protected:
  ExportProgramTest() {
    const auto golden = RunfilePath("tests/goldens/families/stablelm");
    CHECK(golden.ok()) << golden.status();
    fs::create_directories(directory_ / "model");
    for (const char* name : {"config.json", "model.safetensors"}) {
      fs::copy_file(fs::path(*golden) / name, directory_ / absl::StrCat("model/", name));
    }
    WriteFile(directory_ / "model/generation_config.json", R"({"eos_token_id": [3, 5]})");
    WriteFile(directory_ / "model/run.json", "{}");
    WriteTokenizer("model", R"({"tokenizer_class": "PreTrainedTokenizerFast",
                                "chat_template": "{{ messages }}"})");
    source_ = ReadTensors(directory_ / "model", SafetensorsDType::kF32);
  }

  // A tokenizer of 128 bytes, as many as the model has tokens.
  void WriteTokenizer(const std::string& folder, const std::string& config) const {
    json tokenizer = json::parse(ByteTokenizerFiles().at("tokenizer.json"));
    const json vocab = tokenizer["model"]["vocab"];
    for (const auto& [token, id] : vocab.items()) {
      if (id >= 128) tokenizer["model"]["vocab"].erase(token);
    }
    WriteFile(directory_ / (folder + "/tokenizer.json"), tokenizer.dump());
    WriteFile(directory_ / (folder + "/tokenizer_config.json"), config);
  }

  ProgramOptions Here() const { return {.directory = directory_.path()}; }
  ProgramResult Export(const Flags& flags) const { return Export(flags, Here()); }
  ProgramResult Export(const Flags& flags, const ProgramOptions& options) const {
    return testing::RunProgram("tools/export", Flags{"--checkpoint=model"} + flags, options);
  }
  void ExpectExports(const Flags& flags) const {
    const ProgramResult result = Export(flags);
    EXPECT_EQ(result.exit_code, 0) << result.err;
  }
  void ExpectError(const Flags& flags, const std::string& part) const {
    const auto before = ReadTree(directory_.path());
    const ProgramResult result = Export(flags);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, AllOf(MatchesRegex("error: [^\n]+\n"), HasSubstr(part)));
    EXPECT_TRUE(ReadTree(directory_.path()) == before) << flags[0];
  }
  json ReadJson(const std::string& path) const { return json::parse(ReadFile(directory_ / path)); }

  TempDirectory directory_;
  Tensors source_;
};

TEST_F(ExportProgramTest, AFolderHasTheWeightsAndTheFiles) {
  const ProgramResult result = Export({"--out=new/out"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, MatchesRegex("new/out: [0-9.]+k parameters, f32, [0-9.]+ KiB in 5 "
                                       "files\n"));
  const auto tree = ReadTree(directory_ / "new/out");
  std::vector<std::string> names;
  for (const auto& [name, text] : tree) names.push_back(name);
  EXPECT_THAT(names, ElementsAre("/", "config.json", "generation_config.json", "model.safetensors",
                                 "tokenizer.json", "tokenizer_config.json"));
  EXPECT_TRUE(ReadTensors(directory_ / "new/out", SafetensorsDType::kF32) == source_);
  EXPECT_EQ(tree.at("tokenizer.json"), ReadFile(directory_ / "model/tokenizer.json"));
  EXPECT_EQ(*ReadHfConfig(directory_ / "new/out/config.json", nullptr),
            *ReadHfConfig(directory_ / "model/config.json", nullptr));
  EXPECT_EQ(ReadJson("new/out/config.json")["torch_dtype"], "float32");
  EXPECT_FALSE(fs::exists(directory_ / "new/out.unfinished"));
}

TEST_F(ExportProgramTest, NarrowerDTypes) {
  ExpectExports({"--out=half", "--dtype=f16"});
  EXPECT_EQ(ReadJson("half/config.json")["torch_dtype"], "float16");
  ExpectExports({"--out=bf16", "--dtype=bf16"});
  EXPECT_EQ(ReadJson("bf16/config.json")["torch_dtype"], "bfloat16");
  const Tensors half = ReadTensors(directory_ / "half", SafetensorsDType::kF16);
  const Tensors bf16 = ReadTensors(directory_ / "bf16", SafetensorsDType::kBf16);
  ASSERT_EQ(half.size(), source_.size());
  for (const auto& [name, values] : source_) {
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(half.at(name)[i], HalfValue(HalfBits(values[i]))) << name;
      ASSERT_EQ(bf16.at(name)[i], float(Bf16(values[i]))) << name;
    }
  }
}

TEST_F(ExportProgramTest, LargeWeightsLieInSeveralFiles) {
  ExpectExports({"--out=out", "--max_shard_size=20KB"});
  const json index = ReadJson("out/model.safetensors.index.json");
  EXPECT_EQ(index["weight_map"].size(), source_.size());
  int num_files = 0;
  for (const auto& entry : fs::directory_iterator(directory_ / "out")) {
    if (entry.path().extension() != ".safetensors") continue;
    ++num_files;
    EXPECT_LE(fs::file_size(entry), 20'000 + 8'000);  // and the header
  }
  EXPECT_GE(num_files, 3);
  EXPECT_TRUE(ReadTensors(directory_ / "out", SafetensorsDType::kF32) == source_);
  // The export is a model, too.
  ExpectExports({"--checkpoint=out", "--out=again"});
  EXPECT_TRUE(ReadTensors(directory_ / "again", SafetensorsDType::kF32) == source_);
}

TEST_F(ExportProgramTest, AFileOfGguf) {
  ExpectExports({"--out=out/a.gguf"});
  const GgufFile file(ReadFile(directory_ / "out/a.gguf"));
  EXPECT_EQ(file.keys.at("general.architecture"), "stablelm");
  EXPECT_EQ(file.keys.at("general.name"), "a");
  EXPECT_EQ(file.keys.at("general.file_type"), 0);
  EXPECT_EQ(file.keys.at("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(file.keys.at("tokenizer.ggml.tokens").size(), 128);
  EXPECT_EQ(file.keys.at("tokenizer.ggml.tokens")[97], "a");
  EXPECT_EQ(file.keys.at("tokenizer.ggml.eos_token_id"), 3);
  EXPECT_EQ(file.keys.at("tokenizer.ggml.eot_token_id"), 5);
  EXPECT_EQ(file.keys.at("tokenizer.chat_template"), "{{ messages }}");
  EXPECT_EQ(file.tensors.at("output_norm.bias").values, source_.at("model.norm.bias"));
  EXPECT_EQ(file.tensors.at("blk.1.attn_q.weight").values,
            source_.at("model.layers.1.self_attn.q_proj.weight"));
  EXPECT_FALSE(fs::exists(directory_ / "out/a.gguf.unfinished"));
}

TEST_F(ExportProgramTest, Q8KeepsNumbersToHalfAStep) {
  const ProgramResult result = Export({"--out=a", "--format=gguf", "--dtype=q8_0"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("3 matrices and tables have rows that are no multiple of 32"));
  const GgufFile file(ReadFile(directory_ / "a"));
  EXPECT_EQ(file.keys.at("general.file_type"), 7);
  const auto& quantized = file.tensors.at("blk.0.attn_output.weight");
  const auto& values = source_.at("model.layers.0.self_attn.o_proj.weight");
  ASSERT_EQ(quantized.values.size(), values.size());
  double largest = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double error = std::abs(double{quantized.values[i]} - values[i]);
    ASSERT_LE(error, quantized.scales[i / 32] * 0.50001);
    largest = std::max(largest, error);
  }
  EXPECT_GT(largest, 0);
}

// GPT-2's rows of 16 and 20 numbers: 4 matrices of each of 3 layers, the table of tokens and the
// head. The table of positions is F32 anyway.
TEST_F(ExportProgramTest, Q8CountsTheTablesThatAreF16) {
  const auto golden = RunfilePath("tests/goldens/families/gpt2");
  ASSERT_TRUE(golden.ok()) << golden.status();
  fs::create_directory(directory_ / "gpt2");
  fs::copy_file(fs::path(*golden) / "model.safetensors", directory_ / "gpt2/model.safetensors");
  json config = json::parse(ReadFile(*golden + "/config.json"));
  config["activation_function"] = "gelu_new";
  config["scale_attn_by_inverse_layer_idx"] = false;
  WriteFile(directory_ / "gpt2/config.json", config.dump());
  const ProgramResult result = Export({"--checkpoint=gpt2", "--out=a.gguf", "--dtype=q8_0"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("note: 14 matrices and tables have rows that are no multiple"));
  const GgufFile file(ReadFile(directory_ / "a.gguf"));
  constexpr uint32_t kF32 = 0, kF16 = 1;
  EXPECT_EQ(file.tensors.at("token_embd.weight").dtype, kF16);
  EXPECT_EQ(file.tensors.at("output.weight").dtype, kF16);
  EXPECT_EQ(file.tensors.at("position_embd.weight").dtype, kF32);
}

TEST_F(ExportProgramTest, ARunStandsForItsLastCheckpoint) {
  fs::create_directories(directory_ / "run/step-2");
  fs::rename(directory_ / "model", directory_ / "run/step-10");
  ExpectExports({"--checkpoint=run", "--out=out"});
  EXPECT_TRUE(ReadTensors(directory_ / "out", SafetensorsDType::kF32) == source_);
}

TEST_F(ExportProgramTest, WithoutATokenizer) {
  fs::remove(directory_ / "model/tokenizer.json");
  const ProgramResult result = Export({"--out=a.gguf"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "note: model holds no tokenizer, nor does the export\n");
  const GgufFile file(ReadFile(directory_ / "a.gguf"));
  EXPECT_EQ(file.keys.at("tokenizer.ggml.model"), "none");
}

TEST_F(ExportProgramTest, WhatExistsStaysUnlessItIsToBeReplaced) {
  WriteFile(directory_ / "a.gguf", "mine");
  ExpectError({"--out=a.gguf"}, "--out: a.gguf: it exists; ");
  ExpectExports({"--out=a.gguf", "--overwrite"});
  EXPECT_EQ(GgufFile(ReadFile(directory_ / "a.gguf")).keys.at("general.name"), "a");

  ExpectExports({"--out=out/", "--dtype=f16"});
  ExpectError({"--out=out"}, "--out: out: it exists; ");
  WriteFile(directory_ / "out/notes.txt", "old");
  WriteFile(directory_ / "out.old", "mine");
  ExpectExports({"--out=out", "--overwrite"});
  EXPECT_FALSE(fs::exists(directory_ / "out/notes.txt"));
  EXPECT_FALSE(fs::exists(directory_ / "out.unfinished"));
  EXPECT_EQ(ReadFile(directory_ / "out.old"), "mine");
  EXPECT_TRUE(ReadTensors(directory_ / "out", SafetensorsDType::kF32) == source_);

  fs::create_directories(directory_ / "other/folder");
  ExpectError({"--out=other", "--overwrite"}, "other: it holds folders");
  fs::remove(directory_ / "other/folder");
  ExpectError({"--out=other", "--overwrite"}, "other: it holds no model");
  ExpectError({"--out=a.gguf", "--format=hf", "--overwrite"}, "a.gguf: it is no folder");
  ExpectError({"--out=out", "--format=gguf", "--overwrite"}, "out: it is no file");
  ExpectError({"--out=model", "--overwrite"}, "model: it is the model itself");
}

TEST_F(ExportProgramTest, ChatTemplatesHaveAFolder) {
  const std::string name = "additional_chat_templates/tool_use.jinja";
  fs::create_directory(directory_ / "model/additional_chat_templates");
  WriteFile(directory_ / ("model/" + name), "{{ tools }}");
  ExpectExports({"--out=out"});
  EXPECT_EQ(ReadFile(directory_ / ("out/" + name)), "{{ tools }}");
  WriteFile(directory_ / ("model/" + name), "{{ more }}");
  ExpectExports({"--out=out", "--overwrite"});
  EXPECT_EQ(ReadFile(directory_ / ("out/" + name)), "{{ more }}");
  fs::create_directory(directory_ / "out/mine");
  ExpectError({"--out=out", "--overwrite"},
              "out: it holds folders other than additional_chat_templates");
}

TEST_F(ExportProgramTest, NoUsableChatTemplateIsANote) {
  WriteTokenizer("model", R"({"tokenizer_class": "PreTrainedTokenizerFast",
                              "chat_template": [{"name": "rag", "template": "{{ messages }}"}]})");
  const ProgramResult result = Export({"--out=a.gguf"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("note: model holds no chat template, or several and none "
                                    "called \"default\"; the export has none\n"));
  const GgufFile file(ReadFile(directory_ / "a.gguf"));
  EXPECT_EQ(file.keys.count("tokenizer.chat_template"), 0);
}

TEST_F(ExportProgramTest, AFileThatIsNotCarriedIsANote) {
  WriteFile(directory_ / "model/notes.txt", std::string((4 << 20) + 1, 'x'));
  const ProgramResult result = Export({"--out=out"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "note: model/notes.txt is not carried over: it is larger than 4.00 MiB\n");
}

TEST_F(ExportProgramTest, ATokenizerOfMoreTokensThanTheModelIsAnError) {
  WriteFile(directory_ / "model/tokenizer.json", ByteTokenizerFiles().at("tokenizer.json"));
  ExpectError({"--out=a.gguf"},
              "model: the tokenizer has 256 tokens, and the model 128; give the "
              "model's own tokenizer");
}

// One that was killed after it had exchanged the folders.
TEST_F(ExportProgramTest, AReplacedFolderThatWasLeftIsTakenOver) {
  ExpectExports({"--out=out", "--dtype=f16"});
  fs::copy(directory_ / "out", directory_ / "out.unfinished");
  WriteFile(directory_ / "out.unfinished/.unfinished", "");
  ExpectExports({"--out=out", "--overwrite"});
  EXPECT_FALSE(fs::exists(directory_ / "out/.unfinished"));
  EXPECT_FALSE(fs::exists(directory_ / "out.unfinished"));
  EXPECT_TRUE(ReadTensors(directory_ / "out", SafetensorsDType::kF32) == source_);
}

TEST_F(ExportProgramTest, WhatAKilledCallLeftIsTakenOver) {
  fs::create_directories(directory_ / "out.unfinished/folder");
  WriteFile(directory_ / "out.unfinished/rest.txt", "old");
  WriteFile(directory_ / "out.unfinished/.unfinished", "");
  WriteFile(directory_ / "a.gguf.unfinished", std::string(1 << 20, 'x'));
  ExpectExports({"--out=out"});
  EXPECT_FALSE(fs::exists(directory_ / "out/rest.txt"));
  EXPECT_FALSE(fs::exists(directory_ / "out/.unfinished"));
  EXPECT_FALSE(fs::exists(directory_ / "out.unfinished"));
  ExpectExports({"--out=a.gguf"});
  EXPECT_EQ(GgufFile(ReadFile(directory_ / "a.gguf")).keys.at("general.name"), "a");
}

TEST_F(ExportProgramTest, WhatNoExportWroteIsLeftAlone) {
  fs::create_directories(directory_ / "out.unfinished");
  WriteFile(directory_ / "out.unfinished/mine.txt", "precious");
  ExpectError({"--out=out"}, "out.unfinished: holds files that are no unfinished export");
  EXPECT_EQ(ReadFile(directory_ / "out.unfinished/mine.txt"), "precious");

  ExpectExports({"--out=checkpoint"});
  WriteFile(directory_ / "checkpoint/manifest.json", "{}");
  ExpectError({"--out=checkpoint", "--overwrite"}, "checkpoint: it is a run's checkpoint");
}

TEST_F(ExportProgramTest, WhatAnotherProcessWritesIsLeftAlone) {
  fs::create_directories(directory_ / "out.unfinished");
  const FileDescriptor other(
      open((directory_ / "out.unfinished").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(flock(other.get(), LOCK_EX), 0);
  ExpectError({"--out=out"}, "out.unfinished: another process is writing it");

  ExpectExports({"--out=mine"});
  const FileDescriptor folder(
      open((directory_ / "mine").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(flock(folder.get(), LOCK_EX), 0);
  ExpectError({"--out=mine", "--overwrite"}, "mine: another process is writing it");
}

TEST_F(ExportProgramTest, AFullDiskLeavesNothing) {
  const auto before = ReadTree(directory_.path());
  for (const char* out : {"--out=out", "--out=a.gguf"}) {
    ProgramOptions options = Here();
    options.max_file_bytes = 10'000;
    const ProgramResult result = Export({out}, options);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, HasSubstr("cannot write"));
    EXPECT_TRUE(ReadTree(directory_.path()) == before) << out;
  }
}

TEST_F(ExportProgramTest, BadFlagsAreNamed) {
  ExpectError({}, "--out: name a folder, or a file *.gguf");
  ExpectError({"--out=a", "--dtype=q8_0"}, "--dtype=q8_0: only --format=gguf has it");
  ExpectError({"--out=a", "--dtype=f64"}, "dtype");
  ExpectError({"--out=a", "--max_shard_size=5XB"}, "--max_shard_size=5XB: is no size");
  ExpectError({"--out=a.gguf", "--max_shard_size=5GB"}, "--max_shard_size: only --format=hf");
  ExpectError({"--out=a", "--gguf_pre=x"}, "--gguf_pre: only --format=gguf");
  ExpectError({"--out=a", "--checkpoint=none"}, "--checkpoint");
}

TEST_F(ExportProgramTest, WhatTheFormatLacksIsNamed) {
  json config = ReadJson("model/config.json");
  config["hidden_act"] = "relu";
  WriteFile(directory_ / "model/config.json", config.dump());
  ExpectError({"--out=a.gguf"}, "architecture \"stablelm\" computes SiLU, not ReLU");
  ExpectExports({"--out=a"});
  WriteFile(directory_ / "model/config.json", "{");
  ExpectError({"--out=b"}, "--checkpoint: model/config.json");
}

TEST_F(ExportProgramTest, HelpExplains) {
  const ProgramResult result = Export({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  for (const char* flag :
       {"--checkpoint", "--base_model", "--out", "--format", "--dtype", "--max_shard_size"}) {
    EXPECT_THAT(result.out, HasSubstr(flag));
  }
}

// An adapter of rank 1 of the queries, whose products count twice: A is all ones, and row i of B is
// (i % 4) / 2, so that row i of the weights grows by i % 4.
class AdapterExportTest : public ExportProgramTest {
 protected:
  AdapterExportTest() {
    fs::create_directories(directory_ / "adapter");
    WriteFile(directory_ / "adapter/adapter_config.json",
              R"({"peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["q_proj"],
                  "base_model_name_or_path": "model"})");
    std::vector<SafetensorsSpec> specs;
    std::vector<std::vector<float>> values;
    for (const auto& [name, shape] : QueryShapes()) {
      const std::string module = "base_model.model." + name.substr(0, name.rfind('.'));
      specs.push_back({module + ".lora_A.weight", {1, shape[1]}});
      values.emplace_back(shape[1], 1.0F);
      specs.push_back({module + ".lora_B.weight", {shape[0], 1}});
      std::vector<float>& rows = values.emplace_back();
      for (int64_t i = 0; i < shape[0]; ++i) rows.push_back(static_cast<float>(i % 4) / 2);
    }
    auto writer =
        SafetensorsWriter::Create(directory_ / "adapter/adapter_model.safetensors", specs);
    CHECK(writer.ok()) << writer.status();
    for (const std::vector<float>& each : values) {
      CHECK(writer->Append(each.data(), each.size()).ok());
    }
    CHECK(writer->Finish().ok());
  }

  std::map<std::string, Shape> QueryShapes() const {
    const auto file = SafetensorsFile::Open(directory_ / "model/model.safetensors");
    CHECK(file.ok()) << file.status();
    std::map<std::string, Shape> shapes;
    for (const SafetensorsEntry& entry : file->entries()) {
      if (absl::StrContains(entry.name, "q_proj.weight")) shapes[entry.name] = entry.shape;
    }
    return shapes;
  }
  Tensors Merged() const {
    Tensors merged = source_;
    for (const auto& [name, shape] : QueryShapes()) {
      std::vector<float>& values = merged.at(name);
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] += static_cast<float>(static_cast<int64_t>(i) / shape[1] % 4);
      }
    }
    return merged;
  }
};

TEST_F(AdapterExportTest, AnAdapterIsMerged) {
  ASSERT_EQ(QueryShapes().size(), 3);
  ExpectExports({"--checkpoint=adapter", "--out=out"});
  EXPECT_TRUE(ReadTensors(directory_ / "out", SafetensorsDType::kF32) == Merged());
  EXPECT_EQ(ReadFile(directory_ / "out/tokenizer.json"),
            ReadFile(directory_ / "model/tokenizer.json"));
  EXPECT_FALSE(fs::exists(directory_ / "out/adapter_config.json"));
  EXPECT_EQ(*ReadHfConfig(directory_ / "out/config.json", nullptr),
            *ReadHfConfig(directory_ / "model/config.json", nullptr));
  ExpectExports({"--checkpoint=adapter", "--out=a.gguf"});
  const GgufFile file(ReadFile(directory_ / "a.gguf"));
  EXPECT_EQ(file.keys.at("tokenizer.chat_template"), "{{ messages }}");
  EXPECT_EQ(file.tensors.at("blk.1.attn_q.weight").values,
            Merged().at("model.layers.1.self_attn.q_proj.weight"));
}

TEST_F(AdapterExportTest, ItsOwnFilesCountBeforeItsBases) {
  WriteTokenizer("adapter", R"({"tokenizer_class": "PreTrainedTokenizerFast",
                                "chat_template": "{{ own }}"})");
  ExpectExports({"--checkpoint=adapter", "--out=out"});
  EXPECT_EQ(ReadJson("out/tokenizer_config.json").at("chat_template"), "{{ own }}");
  EXPECT_TRUE(fs::exists(directory_ / "out/generation_config.json"));
}

TEST_F(AdapterExportTest, TheBaseMayHaveMoved) {
  fs::rename(directory_ / "model", directory_ / "moved");
  ExpectError({"--checkpoint=adapter", "--out=out"}, "--base_model");
  ExpectExports({"--checkpoint=adapter", "--base_model=moved", "--out=out"});
  EXPECT_TRUE(fs::exists(directory_ / "out/model.safetensors"));
  ExpectError({"--checkpoint=moved", "--base_model=moved", "--out=new"}, "is no adapter");
}

}  // namespace
}  // namespace strake
