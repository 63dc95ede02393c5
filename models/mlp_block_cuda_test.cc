// The feed-forward half of a layer on a GPU, against f64 on the CPU.

#include <cmath>
#include <string>

#include "core/memory/device_memory.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "models/families/gpt2.h"
#include "models/families/llama.h"
#include "models/mlp_block.h"
#include "models/tiny_model.h"

namespace strake {
namespace {

using testing::CopyConvert;
using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::FillNormal;
using testing::MaxAbs;
using testing::RelativeError;
using testing::TestContext;
using testing::TestTensor;
using testing::TinyConfig;
using testing::UnitRoundoff;

constexpr int64_t kTokens = 5;

// The number of intermediate features is one for which cuBLASLt can fuse GPT-2's GELU in bf16.
ModelConfig ConfigOf(const ModelFamily* family) {
  ModelConfig config = TinyConfig(family, /*tied=*/false);
  config.intermediate_size = 16;
  return config;
}

struct Block {
  explicit Block(const ModelFamily* family)
      : block(ConfigOf(family), 0, TensorParallel(), &arena) {}

  // dy becomes dx.
  void Run(const Context& ctx, const Tensor& x, const Tensor& dy) {
    MlpBlockSaved saved;
    const auto stream = block.Forward(ctx, {.x = x, .residual = {}}, &saved);
    ASSERT_TRUE(stream.ok()) << stream.status();
    y = stream->x;
    const absl::Status status = block.Backward(ctx, dy, dy, &saved);
    ASSERT_TRUE(status.ok()) << status;
  }

  ParameterArena arena;
  MlpBlock block;
  Tensor y;
};

// The same numbers in both: those of the GPU, in f64.
void Fill(const Block& gpu, const Block& cpu, DType dtype) {
  auto to = cpu.arena.records().begin();
  uint64_t seed = 10;
  for (const ParameterRecord& from : gpu.arena.records()) {
    TestTensor host(dtype, from.shape());
    FillNormal(host, seed++, 0.5);
    ASSERT_TRUE(CopyBlocking(host, from.parameter.value).ok());
    CopyConvert(host, (to++)->parameter.value);
  }
}

void ExpectNear(const std::string& name, const Tensor& on_gpu, const Tensor& truth,
                double tolerance) {
  const auto host = HostCopy::Of(on_gpu);
  ASSERT_TRUE(host.ok()) << host.status();
  EXPECT_GT(MaxAbs(truth), 0.1) << name;
  EXPECT_LE(RelativeError(host->tensor(), truth), tolerance) << name;
}

void ExpectFollowsF64(const ModelFamily* family, DType dtype) {
  SCOPED_TRACE(DTypeName(dtype));
  const CudaTestContext gpu;
  const TestContext cpu;
  Block block(family), truth(family);
  ASSERT_TRUE(block.arena.Allocate(dtype, true, Device::kCuda).ok());
  ASSERT_TRUE(truth.arena.Allocate(DType::kF64, true).ok());
  Fill(block, truth, dtype);
  const Shape shape = {kTokens, ConfigOf(family).hidden_size};
  TestTensor x(dtype, shape), dy(dtype, shape), x64(DType::kF64, shape), dy64(DType::kF64, shape);
  FillNormal(x, 1);
  FillNormal(dy, 2);
  CopyConvert(x, x64);
  CopyConvert(dy, dy64);
  const CudaTestTensor gpu_x(x), gpu_dy(dy);
  block.Run(gpu, gpu_x, gpu_dy);
  truth.Run(cpu, x64, dy64);

  // Norm, product, activation: each step sums up to 16 terms in f32 with some 29 more roundings,
  // and stores up to 2 tensors, rounded. A factor of 1.13 covers GELU's amplification of an error.
  // Forward has 4 steps, and backward, which needs the forward's tensors, as many again.
  const double step =
      1.13 * (4 * (std::sqrt(16) + 29) * UnitRoundoff(DType::kF32) + 2 * UnitRoundoff(dtype));
  ExpectNear("y", block.y, truth.y, 4 * step);
  ExpectNear("dx", gpu_dy, dy64, 8 * step);
  auto expected = truth.arena.records().begin();
  for (const ParameterRecord& record : block.arena.records()) {
    ExpectNear(record.name(), record.parameter.grad, (expected++)->parameter.grad, 8 * step);
  }
}

TEST(MlpBlockCudaTest, Gpt2FollowsF64) {
  ExpectFollowsF64(&kGpt2Family, DType::kF32);
  ExpectFollowsF64(&kGpt2Family, DType::kBf16);
}
TEST(MlpBlockCudaTest, LlamaFollowsF64) {
  ExpectFollowsF64(&kLlamaFamily, DType::kF32);
  ExpectFollowsF64(&kLlamaFamily, DType::kBf16);
}

}  // namespace
}  // namespace strake
