// However many ranks save a model, the files have the same bytes as one rank's, and every layout
// loads them.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/shard_range.h"
#include "core/tensor/tensor_buffer.h"
#include "core/testing/test_tensor.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/checkpoint/safetensors.h"
#include "models/model_config.h"
#include "models/sliced_models.h"
#include "parallel/mesh/run_on_threads.h"
#include "parallel/tensor/gather_parameter.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::ForEachElement;
using testing::SameBits;
using testing::SlicedModels;
using testing::SlicedParameters;

constexpr int kNumArrays = 3;  // weights, first and second moment
const std::vector<std::string> kMoments = {".exp_avg", ".exp_avg_sq"};

// The contents of array `which`, by definition: integers that f32 represents exactly, different for
// each element of a tensor, in every tensor and array.
TensorBuffer Contents(const ParameterArena& arena, int which) {
  TensorBuffer values(DType::kF32, {arena.num_elements()});
  const ParameterSegment* current = nullptr;
  int64_t start = 0;
  ForEachElement(arena, [&](const ParameterSegment& segment, int64_t full_index, int64_t index) {
    if (&segment != current) start = StableHash(absl::StrCat(segment.name, which)) % 8000000;
    current = &segment;
    values.tensor().data<float>()[index] = static_cast<float>(start + full_index);
  });
  return values;
}

std::string MakeDirectory() {
  std::string path = ::testing::TempDir() + "/sliced_XXXXXX";
  CHECK(mkdtemp(path.data()) != nullptr) << path;
  return path;
}

std::string ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string ModelPath(const std::string& directory) { return directory + "/model.safetensors"; }
std::string MomentsPath(const std::string& directory) {
  return directory + "/optimizer.safetensors";
}

// The r-th of R ranges whose sizes differ by 1 at most.
ShardRange EvenRange(int64_t num_elements, int num_ranks, int rank) {
  return {num_elements * rank / num_ranks, num_elements * (rank + 1) / num_ranks};
}

// Saves a model as one rank does.
std::string SaveWhole(const ModelConfig& config) {
  const auto arena = SlicedParameters(config, 0, 1);
  TensorBuffer arrays[kNumArrays];
  for (int i = 0; i < kNumArrays; ++i) arrays[i] = Contents(*arena, i);
  const std::string directory = MakeDirectory();
  CHECK(SaveArrays(ModelPath(directory), *arena, {{"", arrays[0]}}).ok());
  CHECK(SaveArrays(MomentsPath(directory), *arena,
                   {{kMoments[0], arrays[1]}, {kMoments[1], arrays[2]}})
            .ok());
  return directory;
}

// The part of one model that a rank of the mesh saves.
class Saver {
 public:
  Saver(const ModelConfig& config, const Mesh& mesh, bool zero)
      : mesh_(mesh), whole_(SlicedParameters(config, 0, 1)) {
    const MeshVector sizes = mesh.sizes(), at = mesh.coordinates();
    for (int rank = 0; rank < sizes.tp; ++rank) {
      parts_.push_back(SlicedParameters(config, rank, sizes.tp));
    }
    const ParameterArena& own = *parts_[at.tp];
    for (int rank = 0; rank < sizes.dp && zero; ++rank) {
      ranges_.push_back(EvenRange(own.num_elements(), sizes.dp, rank));
    }
    for (int i = 0; i < kNumArrays; ++i) {
      buffers_.push_back(Contents(own, i));
      arrays_.push_back(buffers_.back());
      // Only the moments are sharded; of tensors that every dp rank holds, no second copy is read.
      if (zero && i > 0) {
        arrays_[i] = arrays_[i].Rows(ranges_[at.dp].begin, ranges_[at.dp].end);
      } else if (at.dp > 0) {
        FillConstant(arrays_[i], NAN);
      }
    }
  }

  absl::Status Save(const std::string& directory) {
    STRAKE_RETURN_IF_ERROR(SaveFile(ModelPath(directory), {""}, 0));
    return SaveFile(MomentsPath(directory), kMoments, 1);
  }

 private:
  absl::StatusOr<Tensor> Fetch(int parameter, int array) {
    std::vector<const ParameterRecord*> parts;
    for (const auto& part : parts_) parts.push_back(&part->records()[parameter]);
    return GatherParameter(mesh_, /*stage=*/0, parts, whole_->records()[parameter],
                           array == 0 ? std::vector<ShardRange>() : ranges_, arrays_[array],
                           &memory_);
  }

  absl::Status SaveFile(const std::string& path, const std::vector<std::string>& suffixes,
                        int first_array) {
    const auto fetch = [&](int parameter, int array) {
      return Fetch(parameter, first_array + array);
    };
    if (mesh_.rank() == 0) return SaveArrays(path, *whole_, suffixes, DType::kF32, fetch).status();
    for (int i = 0; i < whole_->records().size(); ++i) {
      for (int array = 0; array < suffixes.size(); ++array) {
        STRAKE_RETURN_IF_ERROR(fetch(i, array).status());
      }
    }
    return absl::OkStatus();
  }

  const Mesh& mesh_;
  std::unique_ptr<ParameterArena> whole_;
  std::vector<std::unique_ptr<ParameterArena>> parts_;
  std::vector<ShardRange> ranges_;
  std::vector<TensorBuffer> buffers_;
  std::vector<Tensor> arrays_;
  DeviceMemory memory_;
};

// Calls body(config, directory of its whole files, T) for models of every kind and every T that
// divides them.
template <typename Body>
void ForEachModel(Body&& body) {
  std::vector<ModelConfig> models = SlicedModels(1);
  for (const int64_t num_kv_heads : {2, 12}) {
    for (const ModelConfig& model : SlicedModels(num_kv_heads)) {
      if (model.num_kv_heads == num_kv_heads && !model.tie_word_embeddings) models.push_back(model);
    }
  }
  for (const ModelConfig& config : models) {
    const std::string directory = SaveWhole(config);
    for (const int tp : {1, 2, 3, 4}) {
      if (config.num_kv_heads % tp == 0 || tp % config.num_kv_heads == 0) {
        body(config, directory, tp);
      }
    }
  }
}

TEST(SlicedCheckpointTest, EveryLayoutWritesTheSameBytes) {
  const std::string saved = MakeDirectory();
  ForEachModel([&](const ModelConfig& config, const std::string& whole, int tp) {
    for (const int dp : {1, 2, 3}) {
      for (const bool zero : {false, true}) {
        const absl::Status status = RunOnThreads({dp, 1, 1, tp}, {}, [&](const Mesh& mesh) {
          return Saver(config, mesh, zero).Save(saved);
        });
        ASSERT_TRUE(status.ok()) << status;
        for (const auto& path : {ModelPath, MomentsPath}) {
          EXPECT_GT(ReadBytes(path(saved)).size(), 1000);
          EXPECT_TRUE(ReadBytes(path(saved)) == ReadBytes(path(whole)))
              << path(saved) << ", tp " << tp << ", dp " << dp << ", zero " << zero;
          unlink(path(saved).c_str());
        }
      }
    }
  });
}

// Loads range [begin, end) of both moments.
void ExpectLoadsMoments(const std::string& directory, const ParameterArena& arena,
                        const ShardRange& range) {
  const TensorBuffer first(DType::kF32, {range.size()}), second(DType::kF32, {range.size()});
  const absl::Status status =
      LoadArrays(MomentsPath(directory), arena,
                 {{kMoments[0], first, range.begin}, {kMoments[1], second, range.begin}});
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(SameBits(first, Contents(arena, 1).tensor().Rows(range.begin, range.end)))
      << range.begin << " to " << range.end;
  EXPECT_TRUE(SameBits(second, Contents(arena, 2).tensor().Rows(range.begin, range.end)))
      << range.begin << " to " << range.end;
}

TEST(SlicedCheckpointTest, EveryLayoutLoadsThem) {
  ForEachModel([&](const ModelConfig& config, const std::string& directory, int tp) {
    for (int rank = 0; rank < tp; ++rank) {
      const auto arena = SlicedParameters(config, rank, tp);
      ASSERT_TRUE(arena->Allocate(DType::kF32, false).ok());
      const absl::Status status = LoadWeights(directory, *config.family, *arena);
      ASSERT_TRUE(status.ok()) << status;
      EXPECT_TRUE(SameBits(arena->values(), Contents(*arena, 0))) << rank << " of " << tp;
      for (const int dp : {1, 2, 3, 64}) {
        for (int i = 0; i < std::min(dp, 3); ++i) {
          ExpectLoadsMoments(directory, *arena, EvenRange(arena->num_elements(), dp, i));
        }
      }
    }
  });
}

// The values of a file's tensor of the first layer's attention.
std::vector<float> ReadTensor(const std::string& directory, const std::string& name,
                              const Shape& shape) {
  const auto file = SafetensorsFile::Open(ModelPath(directory));
  CHECK(file.ok()) << file.status();
  const SafetensorsEntry* entry = file->Find("transformer.h.0.attn.c_attn." + name);
  CHECK(entry != nullptr && entry->shape == shape) << name;
  std::vector<float> values(NumElements(shape));
  CHECK(file->ReadF32(*entry, 0, static_cast<int64_t>(values.size()), values.data()).ok());
  return values;
}

TEST(SlicedCheckpointTest, InterleavedHeadsAreRowsHeadByHead) {
  const ModelConfig config = SlicedModels(1)[2];
  const auto arena = SlicedParameters(config, 0, 1);
  ASSERT_TRUE(arena->Allocate(DType::kF32, false).ok());
  const int64_t d = config.head_dim, width = config.num_heads * d, c = config.hidden_size;
  const Tensor weight = arena->records()[4].parameter.value;
  const Tensor bias = arena->records()[5].parameter.value;
  ASSERT_EQ(weight.shape(), (Shape{c, 3 * width}));
  std::iota(weight.data<float>(), weight.data<float>() + weight.num_elements(), 0.0f);
  std::iota(bias.data<float>(), bias.data<float>() + bias.num_elements(), 0.0f);
  const std::string directory = MakeDirectory();
  ASSERT_TRUE(SaveArrays(ModelPath(directory), *arena, {{"", arena->values()}}).ok());
  const std::vector<float> weights = ReadTensor(directory, "weight", {3 * width, c});
  const std::vector<float> biases = ReadTensor(directory, "bias", {3 * width});
  for (int64_t row = 0; row < 3 * width; ++row) {
    const int64_t head = row / (3 * d), part = row / d % 3;
    const int64_t column = part * width + head * d + row % d;
    EXPECT_EQ(biases[row], column);
    for (int64_t in = 0; in < c; ++in) {
      EXPECT_EQ(weights[row * c + in], in * 3 * width + column) << row << ", " << in;
    }
  }
}

TEST(SlicedCheckpointTest, PartsOfAnArrayLoadTogether) {
  const ModelConfig config = SlicedModels(1)[1];
  const std::string directory = SaveWhole(config);
  const auto arena = SlicedParameters(config, 1, 3);
  const int64_t n = arena->num_elements();
  const TensorBuffer first(DType::kF32, {n}), second(DType::kF32, {n});
  std::vector<ArenaArray> parts;
  for (const ShardRange& range : {ShardRange{0, 50}, {50, n / 2}, {n / 2, n}}) {
    for (const auto& [suffix, array] :
         {std::pair{kMoments[0], first.tensor()}, std::pair{kMoments[1], second.tensor()}}) {
      parts.push_back({suffix, array.Rows(range.begin, range.end), range.begin});
    }
  }
  const absl::Status status = LoadArrays(MomentsPath(directory), *arena, parts);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(SameBits(first, Contents(*arena, 1)));
  EXPECT_TRUE(SameBits(second, Contents(*arena, 2)));
}

TEST(SlicedCheckpointTest, RangesMayEndAnywhere) {
  const ModelConfig config = SlicedModels(1)[1];
  const std::string directory = SaveWhole(config);
  const auto arena = SlicedParameters(config, 1, 3);
  const Philox random(1, RandomUse::kTesting);
  for (int i = 0; i < 200; ++i) {
    const int64_t begin = random.Bits(2 * i) % (arena->num_elements() + 1);
    // Long, and short: within a row or two.
    const int64_t longest = i % 2 == 0 ? arena->num_elements() - begin : 40;
    const int64_t size = random.Bits(2 * i + 1) % (longest + 1);
    ExpectLoadsMoments(directory, *arena, {begin, std::min(begin + size, arena->num_elements())});
  }
}

TEST(SlicedCheckpointTest, ErrorsSpeakOfWholeTensors) {
  const std::vector<ModelConfig> models = SlicedModels(1);
  const std::string directory = SaveWhole(models[0]);
  ModelConfig wider = models[0];
  wider.vocab_size = 12;
  const auto arena = SlicedParameters(wider, 1, 2);
  ASSERT_TRUE(arena->Allocate(DType::kF32, false).ok());
  EXPECT_EQ(LoadWeights(directory, *wider.family, *arena).message(),
            ModelPath(directory) +
                ": tensor \"transformer.wte.weight\" has shape [11, 24], but the model needs "
                "[12, 24]; is this the configuration it belongs to?");
  // c_attn is one tensor, in three slices.
  ModelConfig deeper = models[0];
  deeper.num_layers = 3;
  const auto three = SlicedParameters(deeper, 1, 2);
  ASSERT_TRUE(three->Allocate(DType::kF32, false).ok());
  EXPECT_EQ(LoadWeights(directory, *deeper.family, *three).message(),
            ModelPath(directory) +
                ": the model's tensor \"transformer.h.2.ln_1.weight\" and 11 more is missing");
}

TEST(SlicedCheckpointTest, AFullDiskEndsEveryRank) {
  const ModelConfig config = SlicedModels(1)[0];
  const absl::Status status = RunOnThreads({2, 1, 1, 2}, {}, [&](const Mesh& mesh) {
    return Saver(config, mesh, true).Save("/no/such/folder");
  });
  EXPECT_TRUE(absl::StrContains(status.message(), "cannot create /no/such/folder")) << status;
}

TEST(SlicedCheckpointDeathTest, ASliceIsNoWholeModel) {
  const auto arena = SlicedParameters(SlicedModels(1)[0], 0, 2);
  const TensorBuffer values(DType::kF32, {arena->num_elements()});
  EXPECT_DEATH((void)SaveArrays("/no/such", *arena, {{"", values}}),
               "not of the whole tensor transformer.wte.weight \\[11, 24\\]");
}

}  // namespace
}  // namespace strake
