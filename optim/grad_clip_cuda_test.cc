// Clipping on a GPU, against the CPU's.
#include <cmath>
#include <vector>

#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "core/memory/activation_arena.h"
#include "core/memory/device_memory.h"
#include "core/memory/parameter_arena.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "optim/grad_clip.h"
#include "parallel/mesh/run_on_threads.h"

namespace strake {
namespace {

using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::FillNormal;
using testing::FillSmallIntegers;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;

constexpr SegmentSlice Others(int64_t rows, int64_t columns) {
  return {.full_rows = rows,
          .full_columns = columns,
          .num_rows = rows,
          .num_holders = 2,
          .owner = false};
}

// A rank that owns all of one parameter, nothing of another, and some columns of a third.
void AddParameters(ParameterArena* arena) {
  arena->Add({{.name = "w", .columns = 5}}, {9, 5}, true);
  arena->Add({{.name = "norm", .columns = 70, .slice = Others(1, 70)}}, {70}, false);
  arena->Add({{.name = "q", .columns = 6},
              {.name = "k", .columns = 2, .slice = Others(7, 2)},
              {.name = "v", .columns = 2, .slice = Others(7, 2)}},
             {7, 10}, true);
  arena->Add({{.name = "out", .columns = 3}}, {20, 3}, true);
}

// {norm, scale} of gradients from an element of the index space on, by the CPU and by the GPU.
struct Clips {
  Clips(const ParameterArena& parameters, int64_t begin, const Tensor& grads, double clip_norm)
      : cpu(DType::kF64, {2}), gpu(DType::kF64, {2}) {
    const TestContext cpu_ctx;
    const CudaTestContext gpu_ctx;
    const CudaTestTensor gpu_grads(grads);
    CHECK(ClipGradNorm(cpu_ctx, parameters, {{begin, grads}}, clip_norm, {}, cpu).ok());
    CHECK(ClipGradNorm(gpu_ctx, parameters, {{begin, gpu_grads}}, clip_norm, {}, gpu).ok());
  }
  TestTensor cpu;
  CudaTestTensor gpu;
};

TEST(GradClipCudaTest, GivesTheBitsOfTheCpu) {
  ParameterArena parameters;
  AddParameters(&parameters);
  TestTensor grads(DType::kF32, {parameters.num_elements()});
  FillNormal(grads, 1);
  for (const ShardRange range : {ShardRange{0, parameters.num_elements()}, {64, 221}, {64, 64}}) {
    for (const double clip_norm : {0.0, 1.0, 1e6}) {
      const Clips clips(parameters, range.begin, grads->Rows(range.begin, range.end), clip_norm);
      EXPECT_TRUE(SameBits(clips.gpu.ToHost(), clips.cpu))
          << "[" << range.begin << ", " << range.end << ") " << clip_norm;
      EXPECT_EQ(clips.cpu->data<double>()[0] > 0, range.size() > 0);
    }
  }
}

// Two ranks that share the GPU and own the halves of the gradients.
TEST(GradClipCudaTest, SumsOverRanks) {
  constexpr int64_t kSize = 128;
  ParameterArena parameters;
  parameters.Add({{.name = "w", .columns = kSize}}, {kSize}, true);
  TestTensor grads(DType::kF32, {kSize}), expected(DType::kF64, {2});
  FillSmallIntegers(grads, 1);
  const TestContext cpu;
  ASSERT_TRUE(ClipGradNorm(cpu, parameters, {{0, grads}}, 1, {}, expected).ok());
  const absl::Status status =
      RunOnThreads({.dp = 2, .pp = 1, .cp = 1, .tp = 1}, {}, [&](const Mesh& mesh) -> absl::Status {
        const CudaTestContext gpu;
        const Context& ctx = gpu;
        mesh.BindCudaStream(ctx.cuda_stream());
        const ShardRange half = {mesh.rank() * kSize / 2, (mesh.rank() + 1) * kSize / 2};
        const CudaTestTensor own(grads->Rows(half.begin, half.end)), clip(DType::kF64, {2});
        Communicator* const groups[] = {&mesh.communicator(MeshAxis::kDp)};
        STRAKE_RETURN_IF_ERROR(ClipGradNorm(ctx, parameters, {{half.begin, own}}, 1, groups, clip));
        EXPECT_TRUE(SameBits(clip.ToHost(), expected)) << "rank " << mesh.rank();
        return SynchronizeCudaStream(ctx.cuda_stream());
      });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(GradClipCudaTest, NonFiniteNorms) {
  ParameterArena parameters;
  parameters.Add({{.name = "w", .columns = 64}}, {64}, true);
  TestTensor grads(DType::kF32, {64});
  testing::FillConstant(grads, 1);
  grads->data<float>()[63] = INFINITY;
  const Clips infinite(parameters, 0, grads, 1);
  EXPECT_TRUE(SameBits(infinite.gpu.ToHost(), infinite.cpu));
  grads->data<float>()[3] = NAN;
  const Clips nan(parameters, 0, grads, 1);
  const HostCopy clip = nan.gpu.ToHost();
  EXPECT_TRUE(std::isnan(clip.tensor().data<double>()[0]));
  EXPECT_TRUE(std::isnan(clip.tensor().data<double>()[1]));
}

TEST(GradClipCudaTest, ADryRunPlansWhatTheRunAllocates) {
  const CudaTestContext gpu;
  const Context& ctx = gpu;
  ParameterArena parameters;
  AddParameters(&parameters);
  const int64_t size = parameters.num_elements();
  const CudaTestTensor grads(DType::kF32, {size}), clip(DType::kF64, {2});
  ASSERT_TRUE(ClipGradNorm(ctx, parameters, {{0, grads}}, 1, {}, clip).ok());
  ActivationArena plan = ActivationArena::DryRun(Device::kCuda);
  ThreadTeam team(1);
  const auto planned = [](DType dtype, int64_t size) {
    return Tensor(nullptr, dtype, {size}, Device::kCuda);
  };
  EXPECT_TRUE(ClipGradNorm(Context(&team, &plan), parameters, {{0, planned(DType::kF32, size)}}, 1,
                           {}, planned(DType::kF64, 2))
                  .ok());
  EXPECT_EQ(plan.peak_bytes(), ctx.arena().peak_bytes());
}

}  // namespace
}  // namespace strake
