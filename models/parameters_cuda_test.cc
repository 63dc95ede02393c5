// A model's parameters on a GPU: their initial values, and files.

#include <stdlib.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>

#include "core/memory/device_memory.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/checkpoint/safetensors.h"
#include "models/families/llama.h"
#include "models/initialize.h"
#include "models/tiny_model.h"
#include "models/transformer.h"
#include "parallel/mesh/mesh.h"
#include "parallel/tensor/gather_parameter.h"

namespace strake {
namespace {

using testing::CudaTestTensor;
using testing::FillNormal;
using testing::MaxAbs;
using testing::SameBits;
using testing::TestTensor;

// Llama has parameters of several segments.
struct Model {
  Model(Device device, DType dtype)
      : model(testing::TinyConfig(&kLlamaFamily, /*tied=*/false), 4, &arena) {
    CHECK(arena.Allocate(dtype, true, device).ok());
  }
  absl::Status Initialize() {
    ThreadTeam team(2);
    return InitializeParameters(5, team, &arena);
  }
  ParameterArena arena;
  Transformer model;
};

HostCopy ToHost(const Tensor& x) {
  auto copy = HostCopy::Of(x);
  CHECK(copy.ok()) << copy.status();
  return std::move(copy).value();
}

std::string MakeDirectory() {
  std::string path = ::testing::TempDir() + "/XXXXXX";
  CHECK(mkdtemp(path.data()) != nullptr);
  return path;
}

std::string ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class ParametersCudaTest : public ::testing::TestWithParam<DType> {
 protected:
  ParametersCudaTest() : directory_(MakeDirectory()), path_(directory_ + "/model.safetensors") {}

  const std::string directory_, path_;
};

TEST_P(ParametersCudaTest, BeginAsTheCpus) {
  Model cpu(Device::kCpu, GetParam()), cuda(Device::kCuda, GetParam());
  ASSERT_TRUE(cpu.Initialize().ok());
  ASSERT_TRUE(cuda.Initialize().ok());
  EXPECT_GT(MaxAbs(cpu.arena.values()), 0);
  EXPECT_TRUE(SameBits(ToHost(cuda.arena.values()), cpu.arena.values()));
}

TEST_P(ParametersCudaTest, FilesAreTheCpus) {
  Model cpu(Device::kCpu, GetParam()), cuda(Device::kCuda, GetParam());
  ASSERT_TRUE(cpu.Initialize().ok());
  ASSERT_TRUE(cuda.Initialize().ok());
  const std::string cpu_path = directory_ + "/cpu.safetensors";
  ASSERT_TRUE(SaveArrays(cpu_path, cpu.arena, {{"", cpu.arena.values()}}).ok());
  ASSERT_TRUE(SaveArrays(path_, cuda.arena, {{"", cuda.arena.values()}}).ok());
  EXPECT_TRUE(ReadBytes(path_) == ReadBytes(cpu_path));
  const auto file = SafetensorsFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_STREQ(SafetensorsDTypeName(file->entries()[0].dtype),
               GetParam() == DType::kBf16 ? "BF16" : "F32");

  Model loaded(Device::kCuda, GetParam());
  const absl::Status status = LoadWeights(directory_, kLlamaFamily, loaded.arena);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(SameBits(ToHost(loaded.arena.values()), cpu.arena.values()));
}

// Arrays in f32; the loading ones hold a part of the index space each.
TEST_P(ParametersCudaTest, OptimizerStateOfARange) {
  const Model model(Device::kCuda, GetParam());
  const int64_t n = model.arena.num_elements(), begin = n / 3, end = n - 70;
  TestTensor first(DType::kF32, {n}), second(DType::kF32, {n});
  FillNormal(first, 1);
  FillNormal(second, 2);
  const CudaTestTensor first_cuda(first), second_cuda(second);
  ASSERT_TRUE(SaveArrays(path_, model.arena, {{".a", first_cuda}, {".b", second_cuda}}).ok());

  const CudaTestTensor a(DType::kF32, {end - begin}), b(DType::kF32, {end - begin});
  const absl::Status status = LoadArrays(path_, model.arena, {{".a", a, begin}, {".b", b, begin}});
  ASSERT_TRUE(status.ok()) << status;
  int64_t compared = 0;
  const HostCopy a_host = a.ToHost(), b_host = b.ToHost();
  for (const ParameterRecord& record : model.arena.records()) {
    const int64_t from = std::max(begin, record.offset);
    const int64_t to = std::min(end, record.end());
    if (from >= to) continue;
    EXPECT_TRUE(SameBits(a_host.tensor().Rows(from - begin, to - begin), first->Rows(from, to)));
    EXPECT_TRUE(SameBits(b_host.tensor().Rows(from - begin, to - begin), second->Rows(from, to)));
    compared += to - from;
  }
  EXPECT_GT(compared, n / 3);
}

TEST_P(ParametersCudaTest, GatheredFromOneRankTheyStayThere) {
  Model model(Device::kCuda, GetParam());
  const ParameterRecord* record = &model.arena.records()[2];
  DeviceMemory memory;
  const auto gathered = GatherParameter(Mesh::SingleRank(), /*stage=*/0, {&record, 1}, *record, {},
                                        model.arena.values(), &memory);
  ASSERT_TRUE(gathered.ok()) << gathered.status();
  EXPECT_EQ(gathered->raw(), record->parameter.value.raw());
  EXPECT_EQ(gathered->device(), Device::kCuda);
}

INSTANTIATE_TEST_SUITE_P(DTypes, ParametersCudaTest, ::testing::Values(DType::kF32, DType::kBf16),
                         [](const auto& info) {
                           return std::string(info.param == DType::kF32 ? "F32" : "Bf16");
                         });

}  // namespace
}  // namespace strake
