// Adapters are merged into their base as their definition says, on any number of ranks.
#include "models/checkpoint/model_files.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "core/base/dtype.h"
#include "core/base/philox.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_buffer.h"
#include "core/testing/temp_directory.h"
#include "core/testing/test_tensor.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/checkpoint/adapter_config.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/checkpoint/safetensors.h"
#include "models/families/families.h"
#include "models/lora_config.h"
#include "models/model_config.h"
#include "models/sliced_models.h"

namespace strake {
namespace {

using ::testing::AllOf;
using testing::ForEachElement;
using testing::GetElement;
using ::testing::HasSubstr;
using testing::SlicedModels;
using testing::SlicedParameters;
using testing::TempDirectory;
using testing::WriteFile;

// Integers, so that all sums are exact: an element by its tensor's name and its index.
float ValueOf(absl::string_view tensor, int64_t full_index) {
  const int64_t start = StableHash(tensor) % 8;
  return static_cast<float>((start + full_index + full_index / 7) % 8 - 4);
}

TensorBuffer ContentsOf(const ParameterArena& arena) {
  TensorBuffer values(DType::kF32, {arena.num_elements()});
  ForEachElement(arena, [&](const ParameterSegment& segment, int64_t full_index, int64_t index) {
    values.tensor().data<float>()[index] = ValueOf(segment.name, full_index);
  });
  return values;
}

void Save(const std::string& path, const ParameterArena& arena) {
  const TensorBuffer values = ContentsOf(arena);
  const absl::Status saved = SaveArrays(path, arena, {{"", values}});
  CHECK(saved.ok()) << saved;
}

using Matrices = std::map<std::string, std::pair<Shape, std::vector<float>>>;

Matrices ReadMatrices(const std::string& path) {
  const auto file = SafetensorsFile::Open(path);
  CHECK(file.ok()) << file.status();
  Matrices matrices;
  for (const SafetensorsEntry& entry : file->entries()) {
    std::vector<float> values(NumElements(entry.shape));
    CHECK(file->ReadF32(entry, 0, values.size(), values.data()).ok());
    matrices[entry.name] = {entry.shape, std::move(values)};
  }
  return matrices;
}

// What the adapter adds to an element of a tensor, [in, out] row by row.
double AddedTo(const Matrices& adapter, double scale, absl::string_view tensor,
               int64_t full_index) {
  const std::string module = "base_model.model." + std::string(tensor.substr(0, tensor.rfind('.')));
  const auto b = adapter.find(module + ".lora_B.weight");
  if (b == adapter.end() || !absl::EndsWith(tensor, ".weight")) return 0;
  const auto& [b_shape, b_values] = b->second;
  const auto& [a_shape, a_values] = adapter.at(module + ".lora_A.weight");
  const int64_t rank = a_shape[0], out = b_shape[0];
  const int64_t row = full_index / out, column = full_index % out;
  double sum = 0;
  for (int64_t k = 0; k < rank; ++k) {
    sum += double(a_values[k * a_shape[1] + row]) * double(b_values[column * rank + k]);
  }
  return scale * sum;
}

class ModelFilesTest : public ::testing::Test {
 protected:
  // A base and an adapter, whose alpha / rank is 1.5.
  void Write(const ModelConfig& model, const std::vector<std::string>& targets = {}) {
    model_ = model;
    ModelConfig adapted = model;
    adapted.lora = {.rank = 2, .alpha = 3, .targets = targets};
    std::filesystem::create_directories(directory_ / "base");
    std::filesystem::create_directories(directory_ / "adapter");
    // Not all of SlicedModels() have a config.json, and most tests only need one to be there.
    WriteFile(directory_ / "base/config.json", "{}");
    Save(directory_ / "base/model.safetensors", *SlicedParameters(model, 0, 1));
    Save(AdapterWeightsPath(), *SlicedParameters(adapted, 0, 1));
    WriteConfig({.lora = adapted.lora, .base_model = directory_ / "base"});
  }
  void WriteConfig(const AdapterConfig& config) const {
    WriteFile(directory_ / "adapter/adapter_config.json",
              ToAdapterConfig(config, /*fan_in_fan_out=*/false));
  }
  std::string AdapterWeightsPath() const {
    return directory_ / "adapter/adapter_model.safetensors";
  }
  ModelFiles Find() const {
    const auto files = FindModelFiles(directory_ / "adapter", /*base=*/"", /*notices=*/nullptr);
    CHECK(files.ok()) << files.status();
    return *files;
  }
  absl::Status Load(ParameterArena* arena) const { return LoadModel(Find(), model_, *arena); }

  // Loads a rank's part in a dtype, and compares it with the definition.
  void ExpectMerged(int rank, int num_ranks, DType dtype) const {
    const auto arena = SlicedParameters(model_, rank, num_ranks);
    ASSERT_TRUE(arena->Allocate(dtype, /*with_gradients=*/false).ok());
    const absl::Status loaded = Load(arena.get());
    ASSERT_TRUE(loaded.ok()) << loaded;
    const Matrices adapter = ReadMatrices(AdapterWeightsPath());
    const Tensor values = arena->values();
    int64_t num_changed = 0;
    ForEachElement(*arena, [&](const ParameterSegment& segment, int64_t full_index, int64_t index) {
      const double added = AddedTo(adapter, 1.5, segment.name, full_index);
      num_changed += added != 0;
      ASSERT_EQ(GetElement(values, index).real(), ValueOf(segment.name, full_index) + added)
          << segment.name << " " << full_index;
    });
    EXPECT_GT(num_changed, 0);
  }

  const TempDirectory directory_;
  ModelConfig model_;
};

TEST_F(ModelFilesTest, TheAdapterIsAddedToItsBase) {
  for (const ModelConfig& model : SlicedModels(/*num_kv_heads=*/24)) {
    SCOPED_TRACE(model.family->model_type);
    Write(model);
    for (const DType dtype : {DType::kF32, DType::kF64, DType::kBf16}) ExpectMerged(0, 1, dtype);
    for (const int num_ranks : {2, 3, 8}) {
      for (int rank = 0; rank < num_ranks; ++rank) ExpectMerged(rank, num_ranks, DType::kF32);
    }
  }
}

TEST_F(ModelFilesTest, OtherLayersAreTheBases) {
  const ModelConfig llama = SlicedModels(/*num_kv_heads=*/4)[1];
  Write(llama, {"0.self_attn.v_proj", "down_proj"});
  EXPECT_EQ(ReadMatrices(AdapterWeightsPath()).size(), 2 * (1 + 2));
  ExpectMerged(0, 1, DType::kF32);
  ExpectMerged(1, 2, DType::kF32);
}

TEST_F(ModelFilesTest, AModelAloneIsItself) {
  Write(SlicedModels(/*num_kv_heads=*/4)[1]);
  const auto files = FindModelFiles(directory_ / "base", /*base=*/"", /*notices=*/nullptr);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->base, directory_ / "base");
  EXPECT_EQ(files->adapter, "");
  const auto merged = SlicedParameters(model_, 0, 1);
  ASSERT_TRUE(merged->Allocate(DType::kF32, /*with_gradients=*/false).ok());
  ASSERT_TRUE(LoadModel(*files, model_, *merged).ok());
  ForEachElement(*merged, [&](const ParameterSegment& segment, int64_t full_index, int64_t index) {
    ASSERT_EQ(GetElement(merged->values(), index).real(), ValueOf(segment.name, full_index));
  });
}

TEST_F(ModelFilesTest, FilesOfTheAdapterCountBeforeItsBases) {
  Write(SlicedModels(/*num_kv_heads=*/4)[1]);
  const ModelFiles files = Find();
  EXPECT_EQ(files.FolderWith("tokenizer.json"), directory_ / "base");
  WriteFile(directory_ / "adapter/tokenizer.json", "{}");
  EXPECT_EQ(files.FolderWith("tokenizer.json"), directory_ / "adapter");
}

TEST_F(ModelFilesTest, TheBaseIsTheOneGiven) {
  Write(SlicedModels(/*num_kv_heads=*/4)[1]);
  std::filesystem::rename(directory_ / "base", directory_ / "moved");
  const std::string adapter = directory_ / "adapter";
  const absl::Status away = FindModelFiles(adapter, "", nullptr).status();
  EXPECT_TRUE(absl::IsNotFound(away)) << away;
  EXPECT_THAT(away.message(), AllOf(HasSubstr(adapter), HasSubstr(directory_ / "base")));
  const auto given = FindModelFiles(adapter, directory_ / "moved", nullptr);
  ASSERT_TRUE(given.ok()) << given.status();
  EXPECT_EQ(given->base, directory_ / "moved");
  EXPECT_THAT(
      FindModelFiles(directory_ / "moved", directory_ / "moved", nullptr).status().message(),
      HasSubstr("is no adapter"));
}

TEST_F(ModelFilesTest, BasesThatAreNoneAreErrors) {
  Write(SlicedModels(/*num_kv_heads=*/4)[1]);
  const LoraConfig lora = {.rank = 2, .alpha = 3};
  const auto error = [&] {
    return std::string(FindModelFiles(directory_ / "adapter", "", nullptr).status().message());
  };
  WriteConfig({.lora = lora});
  EXPECT_THAT(error(), HasSubstr("does not name the base"));
  WriteConfig({.lora = lora, .base_model = directory_ / "adapter"});
  EXPECT_THAT(error(), HasSubstr("is an adapter itself"));
  WriteFile(directory_ / "adapter/model.safetensors", "");
  EXPECT_THAT(error(), AllOf(HasSubstr("adapter_config.json, an adapter's"),
                             HasSubstr("model.safetensors, a model's")));
}

TEST_F(ModelFilesTest, TargetsThatTheModelLacksAreNamed) {
  Write(SlicedModels(/*num_kv_heads=*/4)[1]);
  WriteFile(directory_ / "base/config.json", ToHfConfig(model_));
  WriteConfig({.lora = {.rank = 2, .alpha = 3, .targets = {"q_proj", "lm_head"}},
               .base_model = directory_ / "base"});
  EXPECT_THAT(ReadModelConfig(Find(), nullptr).status().message(),
              AllOf(HasSubstr("adapter_config.json"), HasSubstr("lm_head"), HasSubstr("q_proj")));
}

TEST_F(ModelFilesTest, AdaptersOfOtherModelsNameTheTensor) {
  Write(SlicedModels(/*num_kv_heads=*/4)[1]);
  const auto whole = SlicedParameters(model_, 0, 1);
  ASSERT_TRUE(whole->Allocate(DType::kF32, /*with_gradients=*/false).ok());
  const auto error_of = [&](const std::function<void(ModelConfig*)>& change) {
    ModelConfig other = model_;
    other.lora = {.rank = 2, .alpha = 3};
    change(&other);
    Save(AdapterWeightsPath(), *SlicedParameters(other, 0, 1));
    return std::string(Load(whole.get()).message());
  };
  constexpr char kQuery[] = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
  EXPECT_THAT(error_of([](ModelConfig* c) { c->hidden_size = 48; }),
              AllOf(HasSubstr(AdapterWeightsPath()), HasSubstr(kQuery), HasSubstr("[2, 48]"),
                    HasSubstr("[2, 24]")));
  EXPECT_THAT(error_of([](ModelConfig* c) { c->lora.rank = 3; }),
              AllOf(HasSubstr(kQuery), HasSubstr("[3, 24]"), HasSubstr("[2, 24]")));
  EXPECT_THAT(error_of([](ModelConfig* c) { c->num_layers = 3; }),
              AllOf(HasSubstr("layers.2."), HasSubstr("not one of the model's adapters")));
  EXPECT_THAT(error_of([](ModelConfig* c) { c->num_layers = 1; }),
              AllOf(HasSubstr("layers.1."), HasSubstr("is missing")));
  EXPECT_THAT(error_of([](ModelConfig* c) { c->lora.targets = {"k_proj"}; }),
              AllOf(HasSubstr(kQuery), HasSubstr("is missing")));
  EXPECT_EQ(testing::MaxAbs(whole->values()), 0) << "an error left its mark";
}

TEST_F(ModelFilesTest, TheChecksumIsOfTheNumbers) {
  Write(SlicedModels(/*num_kv_heads=*/4)[1]);
  const auto whole = SlicedParameters(model_, 0, 1);
  whole->AllocateDryRun(DType::kF32);
  const TensorBuffer values = ContentsOf(*whole);
  const auto checksum = [&] {
    const auto sum = WeightsChecksum(directory_ / "base", *model_.family, *whole);
    CHECK(sum.ok()) << sum.status();
    return *sum;
  };
  // Writes them in a dtype that holds them exactly, in files of at most so many bytes.
  const auto write = [&](SafetensorsDType dtype, int64_t max_file_bytes) {
    std::filesystem::remove(directory_ / "base/model.safetensors");
    const auto fetch = [&](int p, int) -> absl::StatusOr<Tensor> {
      const ParameterRecord& record = whole->records()[p];
      return values.tensor().Rows(record.offset, record.offset + record.num_elements());
    };
    CHECK(SaveWeights(directory_ / "base", *whole, dtype, fetch, max_file_bytes).ok());
  };
  const std::string first = checksum();
  EXPECT_EQ(first.size(), 8);
  write(SafetensorsDType::kBf16, 4096);
  EXPECT_EQ(checksum(), first);
  std::filesystem::remove(directory_ / "base/model.safetensors.index.json");
  const ParameterRecord& last = whole->records().back();
  values.tensor().data<float>()[last.offset] += 1;
  write(SafetensorsDType::kF32, kMaxWeightsFileBytes);
  EXPECT_NE(checksum(), first);
}

}  // namespace
}  // namespace strake
