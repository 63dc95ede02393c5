#include "models/checkpoint/hf_checkpoint.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/crc32c.h"
#include "core/tensor/tensor_buffer.h"
#include "core/testing/test_tensor.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/checkpoint/safetensors.h"
#include "models/families/gpt2.h"
#include "models/families/llama.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using ::strake::testing::FillConstant;
using ::strake::testing::GetElement;
using ::strake::testing::SameBits;
using ::strake::testing::SetElement;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A tensor of a file: f32 values under a name.
struct FileTensor {
  Shape shape;
  std::vector<float> values;
};
using FileTensors = std::map<std::string, FileTensor>;

// A new folder.
std::string MakeDirectory() {
  std::string path = ::testing::TempDir() + "/checkpoint_XXXXXX";
  CHECK(mkdtemp(path.data()) != nullptr) << path;
  return path;
}

void WriteText(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteTensors(const std::string& path, const FileTensors& tensors) {
  std::vector<SafetensorsSpec> specs;
  for (const auto& [name, tensor] : tensors) specs.push_back({name, tensor.shape});
  auto writer = SafetensorsWriter::Create(path, specs);
  CHECK(writer.ok()) << writer.status();
  for (const auto& [name, tensor] : tensors) {
    CHECK(writer->Append(tensor.values.data(), tensor.values.size()).ok());
  }
  CHECK(writer->Finish().ok());
}

// Like WriteTensors, with 16-bit elements.
void WriteHalves(const std::string& path, const std::string& dtype, const FileTensors& tensors,
                 uint16_t (*convert)(float)) {
  std::string header = "{", data;
  for (const auto& [name, tensor] : tensors) {
    const size_t begin = data.size();
    for (const float value : tensor.values) {
      const uint16_t bits = convert(value);
      data.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
    }
    absl::StrAppend(&header, header.size() > 1 ? "," : "", "\"", name, "\":{\"dtype\":\"", dtype,
                    "\",\"shape\":", ShapeString(tensor.shape), ",\"data_offsets\":[", begin, ",",
                    data.size(), "]}");
  }
  header += "}";
  const uint64_t length = header.size();
  WriteText(path, std::string(reinterpret_cast<const char*>(&length), 8) + header + data);
}

FileTensors ReadTensors(const std::string& path) {
  const auto file = SafetensorsFile::Open(path);
  CHECK(file.ok()) << file.status();
  FileTensors tensors;
  for (const SafetensorsEntry& entry : file->entries()) {
    FileTensor& tensor = tensors[entry.name];
    tensor.shape = entry.shape;
    tensor.values.resize(NumElements(entry.shape));
    CHECK(file->ReadF32(entry, 0, tensor.values.size(), tensor.values.data()).ok());
  }
  return tensors;
}

// The contents of the arena's Hugging Face file, by definition, element by element.
FileTensors Definition(const ParameterArena& arena, const Tensor& array,
                       const std::string& suffix = "") {
  FileTensors tensors;
  for (const ParameterRecord& record : arena.records()) {
    int64_t first_column = 0;
    const bool matrix = record.shape().size() == 2;
    const int64_t rows = matrix ? record.shape()[0] : 1, stride = record.shape().back();
    for (const ParameterSegment& segment : record.segments) {
      const bool transposed = matrix && segment.transposed;
      FileTensor& tensor = tensors[segment.name + suffix];
      tensor.shape = transposed ? Shape{segment.columns, rows} : Shape{rows, segment.columns};
      if (!matrix) tensor.shape = {segment.columns};
      tensor.values.resize(rows * segment.columns);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < segment.columns; ++c) {
          tensor.values[transposed ? c * rows + r : r * segment.columns + c] =
              GetElement(array, record.offset + r * stride + first_column + c).real();
        }
      }
      first_column += segment.columns;
    }
  }
  return tensors;
}

bool operator==(const FileTensor& a, const FileTensor& b) {
  return a.shape == b.shape && a.values == b.values;
}

// A different integer for each element of each parameter, exact in bf16; gaps stay zero.
void FillArray(const ParameterArena& arena, const Tensor& array, int start = 1) {
  int next = start;
  for (const ParameterRecord& record : arena.records()) {
    for (int64_t i = 0; i < record.num_elements(); ++i) {
      SetElement(array, record.offset + i, next++ % 251);
    }
  }
}

// One parameter of every kind: tables, fused and transposed matrices, fused and single vectors.
void AddParameters(ParameterArena& arena) {
  arena.Add({{"transformer.wte.weight", 3}}, {5, 3}, true);
  arena.Add({{"transformer.h.0.ln.weight", 3}}, {3}, false);
  arena.Add({{"transformer.h.0.q.weight", 4, true},
             {"transformer.h.0.k.weight", 2, true},
             {"transformer.h.0.v.weight", 1, true}},
            {3, 7}, true);
  arena.Add({{"transformer.h.0.q.bias", 4, true},
             {"transformer.h.0.k.bias", 2, true},
             {"transformer.h.0.v.bias", 1}},
            {7}, false);
  arena.Add({{"transformer.h.0.c_fc.weight", 6}, {"transformer.h.0.gate.weight", 2}}, {3, 8}, true);
}

class HfCheckpointTest : public ::testing::Test {
 protected:
  explicit HfCheckpointTest(DType dtype = DType::kF32) {
    AddParameters(arena_);
    CHECK(arena_.Allocate(dtype, false).ok());
    FillArray(arena_, arena_.values());
    tensors_ = Definition(arena_, arena_.values());
    expected_ = TensorBuffer(dtype, {arena_.num_elements()});
    FillArray(arena_, expected_);
    std::memset(arena_.values().raw(), 0, arena_.values().num_bytes());
  }

  // Loads from the folder and expects the initial values of `tensors_`.
  void ExpectLoads() {
    std::memset(arena_.values().raw(), 0, arena_.values().num_bytes());
    const absl::Status status = LoadWeights(directory_, kGpt2Family, arena_);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_TRUE(SameBits(arena_.values(), expected_));
  }

  // Returns the message of the error about the folder; the arena must not change.
  std::string LoadError() {
    FillConstant(arena_.values(), 7);
    const absl::Status status = LoadWeights(directory_, kGpt2Family, arena_);
    CHECK(!status.ok());
    for (int64_t i = 0; i < arena_.num_elements(); ++i) {
      EXPECT_EQ(GetElement(arena_.values(), i), 7.0) << i;
    }
    return std::string(status.message());
  }

  std::string ModelPath() const { return directory_ + "/model.safetensors"; }
  std::string IndexPath() const { return ModelPath() + ".index.json"; }

  std::string directory_ = MakeDirectory();
  ParameterArena arena_;
  FileTensors tensors_;
  TensorBuffer expected_;
};

TEST_F(HfCheckpointTest, LoadsTheLayoutOfTheDefinition) {
  EXPECT_EQ(tensors_["transformer.h.0.k.weight"].shape, (Shape{2, 3}));
  EXPECT_EQ(tensors_["transformer.h.0.gate.weight"].shape, (Shape{3, 2}));
  EXPECT_EQ(tensors_["transformer.h.0.k.bias"].values, (std::vector<float>{44, 45}));
  WriteTensors(ModelPath(), tensors_);
  ExpectLoads();
}

TEST_F(HfCheckpointTest, LoadsWithoutThePrefixAndIgnoresBuffers) {
  FileTensors tensors;
  for (const auto& [name, tensor] : tensors_) tensors[name.substr(12)] = tensor;
  tensors["h.0.attn.bias"] = {{1, 1, 2, 2}, {1, 1, 1, 1}};
  tensors["h.0.attn.masked_bias"] = {{}, {-1e4}};
  tensors["lm_head.weight"] = tensors.at("wte.weight");
  WriteTensors(ModelPath(), tensors);
  ExpectLoads();
  tensors["h.0.attn.bias"] = {{4}, {1, 1, 1, 1}};
  WriteTensors(ModelPath(), tensors);
  EXPECT_THAT(LoadError(), HasSubstr("tensor \"h.0.attn.bias\" is not one of the model's"));
}

TEST_F(HfCheckpointTest, ReadsParameterByParameterInAnyOrder) {
  WriteTensors(ModelPath(), tensors_);
  const auto reader = WeightsReader::Open(directory_, kGpt2Family, arena_);
  ASSERT_TRUE(reader.ok()) << reader.status();
  for (int i = static_cast<int>(arena_.records().size()) - 1; i >= 0; --i) {
    const ParameterRecord& record = arena_.records()[i];
    const TensorBuffer values(DType::kF32, record.shape());
    FillConstant(values, 7);
    const absl::Status read = reader->Read(i, values);
    ASSERT_TRUE(read.ok()) << read;
    EXPECT_TRUE(SameBits(values.tensor().Reshape({record.num_elements()}),
                         expected_.tensor().Rows(record.offset, record.end())))
        << record.name();
  }
  tensors_.erase("transformer.wte.weight");
  WriteTensors(ModelPath(), tensors_);
  EXPECT_EQ(WeightsReader::Open(directory_, kGpt2Family, arena_).status().message(), LoadError());
}

TEST_F(HfCheckpointTest, IgnoresTheBuffersOfTheFamilyAlone) {
  tensors_["model.rotary_emb.inv_freq"] = {{1}, {1}};
  WriteTensors(ModelPath(), tensors_);
  EXPECT_TRUE(LoadWeights(directory_, kLlamaFamily, arena_).ok());
  EXPECT_THAT(LoadError(), HasSubstr("tensor \"model.rotary_emb.inv_freq\" is not one of"));
}

TEST_F(HfCheckpointTest, LoadsBf16) {
  WriteHalves(ModelPath(), "BF16", tensors_, [](float value) { return Bf16(value).bits; });
  ExpectLoads();
}

TEST_F(HfCheckpointTest, LoadsF16WithSubnormalsAndInfinity) {
  FileTensors tensors = tensors_;
  tensors["transformer.h.0.ln.weight"].values = {0x1p-24f, -0x3p-24f, INFINITY};
  WriteHalves(ModelPath(), "F16", tensors, [](float value) -> uint16_t {
    if (value == INFINITY) return 0x7c00;
    if (value == 0x1p-24f) return 1;
    if (value == -0x3p-24f) return 0x8003;
    if (value == 0) return 0;
    // The other values are integers below 2^11.
    const int exponent = std::ilogb(value);
    return ((exponent + 15) << 10) | (static_cast<int>(std::ldexp(value, 10 - exponent)) & 1023);
  });
  const ParameterRecord& norm = arena_.records()[1];
  SetElement(expected_, norm.offset, 0x1p-24);
  SetElement(expected_, norm.offset + 1, -0x3p-24);
  SetElement(expected_, norm.offset + 2, INFINITY);
  ExpectLoads();
}

class F64CheckpointTest : public HfCheckpointTest {
 protected:
  F64CheckpointTest() : HfCheckpointTest(DType::kF64) {}
};

TEST_F(F64CheckpointTest, LoadsAndSaves) {
  WriteTensors(ModelPath(), tensors_);
  ExpectLoads();
  const std::string path = directory_ + "/saved";
  ASSERT_TRUE(SaveArrays(path, arena_, {{"", arena_.values()}}).ok());
  EXPECT_TRUE(ReadTensors(path) == tensors_);
}

class Bf16CheckpointTest : public HfCheckpointTest {
 protected:
  Bf16CheckpointTest() : HfCheckpointTest(DType::kBf16) {}
};

TEST_F(Bf16CheckpointTest, RoundsF16ToNearestEven) {
  // Halves between two of bf16's neighbours 1 + i/128: ties go to the even one.
  static constexpr uint16_t kHalves[] = {0x3c03, 0x3c04, 0x3c05, 0x3c0c};
  WriteHalves(ModelPath(), "F16", {{"transformer.h.0.q.bias", {{4}, {0, 1, 2, 3}}}},
              [](float i) { return kHalves[static_cast<int>(i)]; });
  ParameterArena arena;
  arena.Add({{"transformer.h.0.q.bias", 4}}, {4}, false);
  ASSERT_TRUE(arena.Allocate(DType::kBf16, false).ok());
  const absl::Status status = LoadWeights(directory_, kGpt2Family, arena);
  ASSERT_TRUE(status.ok()) << status;
  const double expected[] = {1, 1, 1 + 1.0 / 128, 1 + 2.0 / 128};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(GetElement(arena.values(), i), expected[i]) << i;
}

TEST_F(Bf16CheckpointTest, LoadsAndSaves) {
  WriteTensors(ModelPath(), tensors_);
  ExpectLoads();
  const std::string path = directory_ + "/saved";
  ASSERT_TRUE(SaveArrays(path, arena_, {{"", arena_.values()}}).ok());
  EXPECT_TRUE(ReadTensors(path) == tensors_);
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  for (const SafetensorsEntry& entry : file->entries()) {
    EXPECT_EQ(entry.dtype, SafetensorsDType::kBf16) << entry.name;
  }
}

TEST_F(HfCheckpointTest, EmptyAndUnreadableFoldersAreNamed) {
  EXPECT_EQ(LoadError(), directory_ +
                             ": neither model.safetensors nor model.safetensors.index.json is "
                             "there");
  WriteText(ModelPath(), "short");
  EXPECT_THAT(LoadError(), HasSubstr(ModelPath() + ": 5 bytes are too few"));
}

TEST_F(HfCheckpointTest, MissingTensorsAreNamed) {
  tensors_.erase("transformer.h.0.k.weight");
  WriteTensors(ModelPath(), tensors_);
  EXPECT_EQ(LoadError(),
            ModelPath() + ": the model's tensor \"transformer.h.0.k.weight\" is missing");
  WriteTensors(ModelPath(), {});
  EXPECT_EQ(LoadError(), ModelPath() +
                             ": the model's tensor \"transformer.wte.weight\" and 9 more is "
                             "missing");
}

TEST_F(HfCheckpointTest, UnknownTensorsAreNamed) {
  tensors_["transformer.h.1.ln.weight"] = {{3}, {1, 2, 3}};
  WriteTensors(ModelPath(), tensors_);
  EXPECT_EQ(LoadError(), ModelPath() +
                             ": tensor \"transformer.h.1.ln.weight\" is not one of the model's; is "
                             "this the configuration it belongs to? If so, remove it to train "
                             "without it");
  // An error of one that is missing names it too: it may be that under another name.
  tensors_.erase("transformer.h.0.ln.weight");
  WriteTensors(ModelPath(), tensors_);
  EXPECT_EQ(LoadError(), ModelPath() +
                             ": the model's tensor \"transformer.h.0.ln.weight\" is missing, and "
                             "tensor \"transformer.h.1.ln.weight\" is not one of the model's; is "
                             "this the configuration it belongs to?");
}

TEST_F(HfCheckpointTest, ATensorUnderTwoSpellingsMustBeOne) {
  tensors_["wte.weight"] = tensors_["transformer.wte.weight"];
  WriteTensors(ModelPath(), tensors_);
  ExpectLoads();
  tensors_["wte.weight"].values.back() += 1;
  WriteTensors(ModelPath(), tensors_);
  EXPECT_EQ(LoadError(), ModelPath() +
                             ": tensor \"wte.weight\" is not \"transformer.wte.weight\", but both "
                             "are the same parameter; remove one of the tensors");
}

TEST_F(HfCheckpointTest, WeightsOfOtherFilesAreRefused) {
  WriteTensors(ModelPath(), tensors_);
  for (const std::string name :
       {"adapter_config.json", "shard-00001-model-00001-of-00002.safetensors"}) {
    WriteText(directory_ + "/" + name, "");
    EXPECT_THAT(LoadError(), HasSubstr(directory_ + "/" + name + ": a"));
    unlink((directory_ + "/" + name).c_str());
  }
  unlink(ModelPath().c_str());
  WriteText(directory_ + "/pytorch_model.bin", "");
  EXPECT_THAT(LoadError(), HasSubstr("index.json is there; load pytorch_model.bin with "));
}

TEST_F(HfCheckpointTest, BothShapesArePrinted) {
  tensors_["transformer.h.0.k.weight"].shape = {3, 2};
  WriteTensors(ModelPath(), tensors_);
  EXPECT_EQ(LoadError(),
            ModelPath() +
                ": tensor \"transformer.h.0.k.weight\" has shape [3, 2], but the model "
                "needs [2, 3]; is this the configuration it belongs to?");
}

TEST_F(HfCheckpointTest, OtherDTypesAreNamed) {
  WriteHalves(ModelPath(), "I16", tensors_, [](float) { return uint16_t{0}; });
  EXPECT_THAT(LoadError(),
              HasSubstr("\"transformer.wte.weight\" is I16; only F64, F32, F16 and BF16"));
}

TEST(HfCheckpointEmbeddingTest, AnUntiedModelNeedsItsOutputEmbedding) {
  ParameterArena arena;
  arena.Add({{"model.embed_tokens.weight", 2}}, {3, 2}, true);
  arena.Add({{"lm_head.weight", 3, true}}, {2, 3}, true);
  ASSERT_TRUE(arena.Allocate(DType::kF32, false).ok());
  const std::string directory = MakeDirectory();
  FileTensors tensors = {{"model.embed_tokens.weight", {{3, 2}, {1, 2, 3, 4, 5, 6}}}};
  WriteTensors(directory + "/model.safetensors", tensors);
  EXPECT_EQ(
      LoadWeights(directory, kGpt2Family, arena).message(),
      directory +
          "/model.safetensors: the model's tensor \"lm_head.weight\" is missing; if its input "
          "and output embedding are one, set tie_word_embeddings to true in its config.json");
  tensors["lm_head.weight"] = {{3, 2}, {7, 8, 9, 10, 11, 12}};
  WriteTensors(directory + "/model.safetensors", tensors);
  ASSERT_TRUE(LoadWeights(directory, kGpt2Family, arena).ok());
  EXPECT_EQ(GetElement(arena.values(), 64 + 1), 9.0);
}

TEST(HfCheckpointEmbeddingTest, ATiedTableIsThereUnderEitherName) {
  ParameterArena arena;
  arena.Add({{"model.embed_tokens.weight", 2}}, {3, 2}, true);
  ASSERT_TRUE(arena.Allocate(DType::kF32, false).ok());
  const std::string path = MakeDirectory() + "/model.safetensors";
  const std::string directory = path.substr(0, path.rfind('/'));
  const FileTensor table = {{3, 2}, {1, 2, 3, 4, 5, 6}};
  for (const FileTensors& tensors : std::vector<FileTensors>{
           {{"model.embed_tokens.weight", table}},
           {{"embed_tokens.weight", table}},  // LlamaModel's, without a head
           {{"lm_head.weight", table}},
           {{"model.embed_tokens.weight", table}, {"lm_head.weight", table}}}) {
    FillConstant(arena.values(), 0);
    WriteTensors(path, tensors);
    const absl::Status loaded = LoadWeights(directory, kLlamaFamily, arena);
    ASSERT_TRUE(loaded.ok()) << loaded;
    EXPECT_EQ(GetElement(arena.values(), 3), 4.0);
  }
  FillConstant(arena.values(), 0);
  FileTensor other = table;
  other.values[5] = 7;
  WriteTensors(path, {{"model.embed_tokens.weight", table}, {"lm_head.weight", other}});
  EXPECT_THAT(std::string(LoadWeights(directory, kLlamaFamily, arena).message()),
              AllOf(HasSubstr(path + ": tensor \"lm_head.weight\" is not "),
                    HasSubstr("tie_word_embeddings in config.json")));
  EXPECT_EQ(GetElement(arena.values(), 3), 0.0);
}

class SaveWeightsTest : public HfCheckpointTest {
 protected:
  using Files = std::map<std::string, std::vector<FilePart>>;

  // Saves weights in files of so many bytes at most, in an empty folder; returns their checksums.
  Files Save(int64_t max_file_bytes, SafetensorsDType dtype = SafetensorsDType::kF32) {
    directory_ = MakeDirectory();
    const auto fetch = [&](int parameter, int) {
      const ParameterRecord& record = arena_.records()[parameter];
      return expected_.tensor().Rows(record.offset, record.end());
    };
    auto files = SaveWeights(directory_, arena_, dtype, fetch, max_file_bytes);
    CHECK(files.ok()) << files.status();
    // All of the folder, and all bytes of it.
    size_t num_files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      ++num_files;
      const std::string bytes = ReadBytes(entry.path());
      int64_t at = 0;
      for (const FilePart& part : (*files)[entry.path().filename()]) {
        EXPECT_EQ(part.crc32c, ExtendCrc32c(0, bytes.substr(at, part.num_bytes)));
        at += part.num_bytes;
      }
      EXPECT_EQ(at, bytes.size()) << entry.path();
    }
    EXPECT_EQ(num_files, files->size());
    return *files;
  }

  std::vector<std::string> Names(const std::string& file) {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : ReadTensors(directory_ + "/" + file)) names.push_back(name);
    return names;
  }
};

TEST_F(SaveWeightsTest, OneFileUpToTheLimit) {
  int64_t num_bytes = 0;
  for (const auto& [name, tensor] : tensors_) num_bytes += tensor.values.size() * sizeof(float);
  const Files files = Save(num_bytes);
  EXPECT_EQ(files.size(), 1);
  EXPECT_TRUE(files.contains("model.safetensors"));
  ExpectLoads();
  EXPECT_EQ(Save(num_bytes - 1).size(), 3);
  ExpectLoads();
}

TEST_F(SaveWeightsTest, RoundsToF16) {
  const int64_t offset = arena_.records()[0].offset;
  SetElement(expected_, offset, 1 + 0x1p-11);  // between 1 and the next, and so the even one
  Save(kMaxWeightsFileBytes, SafetensorsDType::kF16);
  SetElement(expected_, offset, 1);
  ExpectLoads();
  SetElement(expected_, offset, 65520);
  const auto saved =
      SaveWeights(directory_, arena_, SafetensorsDType::kF16, [&](int parameter, int) {
        const ParameterRecord& record = arena_.records()[parameter];
        return expected_.tensor().Rows(record.offset, record.end());
      });
  EXPECT_THAT(std::string(saved.status().message()),
              HasSubstr("tensor \"transformer.wte.weight\" has 65520, which is too large for F16"));
}

TEST_F(SaveWeightsTest, FilesEndBeforeTheTensorThatExceedsTheLimit) {
  // Elements: wte 15, ln 3, q 12, k 6, v 3, biases 4, 2, 1, c_fc 18, gate 6.
  const Files files = Save(15 * sizeof(float));
  EXPECT_EQ(files.size(), 7);
  EXPECT_THAT(Names("model-00001-of-00006.safetensors"), ElementsAre("transformer.wte.weight"));
  EXPECT_THAT(Names("model-00002-of-00006.safetensors"),
              ElementsAre("transformer.h.0.ln.weight", "transformer.h.0.q.weight"));
  EXPECT_THAT(Names("model-00003-of-00006.safetensors"),
              ElementsAre("transformer.h.0.k.bias", "transformer.h.0.k.weight",
                          "transformer.h.0.q.bias", "transformer.h.0.v.weight"));
  ExpectLoads();
}

TEST_F(SaveWeightsTest, TheIndexIsThatOfTransformers) {
  Save(30 * sizeof(float));
  const auto json = nlohmann::json::parse(ReadBytes(IndexPath()));
  EXPECT_EQ(json["metadata"], nlohmann::json({{"total_size", 70 * sizeof(float)}}));
  EXPECT_EQ(json["weight_map"].size(), tensors_.size());
  EXPECT_EQ(json["weight_map"]["transformer.wte.weight"], "model-00001-of-00003.safetensors");
  EXPECT_EQ(json["weight_map"]["transformer.h.0.gate.weight"], "model-00003-of-00003.safetensors");
  EXPECT_EQ(ReadBytes(IndexPath()).substr(0, 43),
            "{\n  \"metadata\": {\n    \"total_size\": 280\n  }");
}

TEST_F(SaveWeightsTest, PartsOfAnArrayLoadFromSeveralFiles) {
  Save(20 * sizeof(float));
  const TensorBuffer values(DType::kF32, {arena_.num_elements()});
  FillConstant(values, 0);
  std::vector<ArenaArray> parts;
  const int64_t n = arena_.num_elements();
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 70}, {70, 200}, {200, n}}) {
    parts.push_back({"", values.tensor().Rows(begin, end), begin});
  }
  const absl::Status status = LoadWeights(directory_, kGpt2Family, arena_, parts);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(SameBits(values, expected_));
}

// Two shards and their index; `edit` may spoil the weight map.
class ShardsTest : public HfCheckpointTest {
 protected:
  ShardsTest() {
    FileTensors shards[2];
    int i = 0;
    for (const auto& [name, tensor] : tensors_) {
      const int shard = i++ % 2;
      shards[shard][name] = tensor;
      weight_map_[name] = ShardName(shard);
    }
    for (const int shard : {0, 1}) {
      WriteTensors(absl::StrCat(directory_, "/", ShardName(shard)), shards[shard]);
    }
    WriteIndex();
  }

  static std::string ShardName(int i) {
    return absl::StrCat("model-0000", i + 1, "-of-00002.safetensors");
  }

  void WriteIndex() {
    std::string text;
    for (const auto& [name, shard] : weight_map_) {
      absl::StrAppend(&text, text.empty() ? "" : ", ", "\"", name, "\": \"", shard, "\"");
    }
    WriteText(IndexPath(),
              absl::StrCat(R"({"metadata": {"total_size": 1}, "weight_map": {)", text, "}}"));
  }

  std::map<std::string, std::string> weight_map_;
};

TEST_F(ShardsTest, Load) { ExpectLoads(); }

TEST_F(ShardsTest, AMissingShardIsNamed) {
  unlink((directory_ + "/" + ShardName(1)).c_str());
  EXPECT_THAT(LoadError(), HasSubstr("cannot open " + directory_ + "/" + ShardName(1)));
}

TEST_F(ShardsTest, TensorsAreWhereTheIndexSays) {
  weight_map_["transformer.wte.weight"] = ShardName(0);
  WriteIndex();
  const char kAdvice[] = "; give each shard the index it belongs to";
  EXPECT_EQ(LoadError(), absl::StrCat(IndexPath(), ": tensor \"transformer.wte.weight\" is not in ",
                                      ShardName(0), kAdvice));
  weight_map_["transformer.wte.weight"] = ShardName(1);
  weight_map_["extra"] = ShardName(0);
  WriteIndex();
  EXPECT_EQ(LoadError(),
            absl::StrCat(IndexPath(), ": tensor \"extra\" is not in ", ShardName(0), kAdvice));
}

TEST_F(ShardsTest, ShardsMayHoldMoreThanTheIndexLists) {
  weight_map_.erase("transformer.wte.weight");
  WriteIndex();
  ExpectLoads();
  // Two must be equal, since transformers takes the last, whatever the index says.
  const std::string path = absl::StrCat(directory_, "/", ShardName(0));
  FileTensors more = ReadTensors(path);
  more["transformer.wte.weight"] = tensors_["transformer.wte.weight"];
  WriteTensors(path, more);
  ExpectLoads();
  more["transformer.wte.weight"].values[0] += 1;
  WriteTensors(path, more);
  EXPECT_THAT(LoadError(), AllOf(HasSubstr("tensor \"transformer.wte.weight\" is not"),
                                 HasSubstr(path), HasSubstr(ShardName(1))));
}

TEST_F(ShardsTest, BadIndicesAreNamed) {
  const auto error = [&](const std::string& text) {
    WriteText(IndexPath(), text);
    return LoadError();
  };
  EXPECT_THAT(error("{"), HasSubstr(IndexPath() + ": bad JSON: parse error at line 1"));
  EXPECT_THAT(error(R"({"weight_map": {"a": "x", "a": "y"}})"), HasSubstr("duplicate key \"a\""));
  EXPECT_EQ(error("[]"), IndexPath() + ": no object \"weight_map\" in it");
  EXPECT_EQ(error("{}"), IndexPath() + ": no object \"weight_map\" in it");
  EXPECT_EQ(error(R"({"weight_map": []})"), IndexPath() + ": no object \"weight_map\" in it");
  for (const char* shard : {"3", "\"\"", "\"../model.safetensors\"", "null"}) {
    EXPECT_EQ(error(absl::StrCat(R"({"weight_map": {"a": )", shard, "}}")),
              absl::StrCat(IndexPath(), ": weight_map gives tensor \"a\" ", shard,
                           ", which is no name of a file beside it; put all shards there"));
  }
  EXPECT_THAT(error(R"({"weight_map": {}})"), HasSubstr("\"transformer.wte.weight\" and 9 more"));
}

// An arena whose pieces need several buffers and leave ragged tiles, with two arrays.
class ArraysTest : public ::testing::Test {
 protected:
  ArraysTest() {
    AddParameters(arena_);
    arena_.Add({{"q", 1000, true}, {"k", 33, true}, {"v", 17, true}}, {300, 1050}, true);
    arena_.Add({{"fused.a", 130}, {"fused.b", 127}}, {2100, 257}, true);
    arena_.Add({{"empty", 0, true}, {"one", 1, true}}, {2, 1}, true);
    first_ = TensorBuffer(DType::kF32, {arena_.num_elements()});
    second_ = TensorBuffer(DType::kF32, {arena_.num_elements()});
    FillArray(arena_, first_);
    FillArray(arena_, second_, 100);
  }

  std::vector<ArenaArray> Arrays() const {
    return {{".exp_avg", first_}, {".exp_avg_sq", second_}};
  }

  std::string LoadError() {
    const TensorBuffer first(DType::kF32, {arena_.num_elements()}),
        second(DType::kF32, {arena_.num_elements()});
    const absl::Status status =
        LoadArrays(path_, arena_, {{".exp_avg", first}, {".exp_avg_sq", second}});
    EXPECT_EQ(::strake::testing::MaxAbs(first), 0);
    EXPECT_EQ(::strake::testing::MaxAbs(second), 0);
    return std::string(status.message());
  }

  const std::string path_ = MakeDirectory() + "/optimizer.safetensors";
  ParameterArena arena_;
  TensorBuffer first_, second_;
};

TEST_F(ArraysTest, SaveFollowsTheDefinitionAndLoadInvertsIt) {
  ASSERT_TRUE(SaveArrays(path_, arena_, Arrays()).ok());
  FileTensors definition = Definition(arena_, first_, ".exp_avg");
  definition.merge(Definition(arena_, second_, ".exp_avg_sq"));
  EXPECT_TRUE(ReadTensors(path_) == definition);

  const TensorBuffer first(DType::kF32, {arena_.num_elements()}),
      second(DType::kF32, {arena_.num_elements()});
  const absl::Status status =
      LoadArrays(path_, arena_, {{".exp_avg", first}, {".exp_avg_sq", second}});
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(SameBits(first, first_));
  EXPECT_TRUE(SameBits(second, second_));

  const std::string bytes = ReadBytes(path_);
  ASSERT_TRUE(SaveArrays(path_, arena_, Arrays()).ok());
  EXPECT_EQ(ReadBytes(path_), bytes);
}

TEST_F(ArraysTest, DiskErrorsNameThePath) {
  EXPECT_THAT(std::string(SaveArrays("/no/such", arena_, Arrays()).message()),
              HasSubstr("cannot create /no/such"));
  EXPECT_THAT(std::string(SaveArrays("/dev/full", arena_, Arrays()).message()),
              HasSubstr("cannot write to /dev/full: No space left"));
}

TEST_F(ArraysTest, LoadIsStrict) {
  EXPECT_THAT(LoadError(), HasSubstr("cannot open " + path_));
  ASSERT_TRUE(SaveArrays(path_, arena_, {Arrays()[0]}).ok());
  EXPECT_EQ(LoadError(),
            path_ +
                ": the model's tensor \"transformer.wte.weight.exp_avg_sq\" and 16 more is "
                "missing");
  std::vector<ArenaArray> three = Arrays();
  three.push_back({".master", first_});
  ASSERT_TRUE(SaveArrays(path_, arena_, three).ok());
  EXPECT_THAT(LoadError(), HasSubstr(": tensor \"transformer.wte.weight.master\" and 16 more is "
                                     "not one of the model's"));
  FileTensors tensors = Definition(arena_, first_, ".exp_avg");
  tensors.merge(Definition(arena_, second_, ".exp_avg_sq"));
  WriteHalves(path_, "BF16", tensors, [](float value) { return Bf16(value).bits; });
  EXPECT_THAT(LoadError(), HasSubstr("weight.exp_avg\" is BF16, but F32 is what is stored here"));
  tensors["v.exp_avg_sq"].shape = {300, 17};
  WriteTensors(path_, tensors);
  EXPECT_THAT(LoadError(), HasSubstr("\"v.exp_avg_sq\" has shape [300, 17], but the model needs "
                                     "[17, 300]"));
}

TEST_F(ArraysTest, ArraysCoverTheArena) {
  const TensorBuffer small(DType::kF32, {3});
  EXPECT_DEATH((void)SaveArrays(path_, arena_, {{".x", small}}),
               "array \".x\" f32\\[3\\] from 0 over an arena of");
}

}  // namespace
}  // namespace strake
