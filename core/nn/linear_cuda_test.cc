// Linear layers on a GPU, compared with f64 on the CPU.

#include <cmath>
#include <string>
#include <tuple>

#include "core/memory/device_memory.h"
#include "core/memory/parameter_arena.h"
#include "core/nn/linear.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::CopyConvert;
using testing::CudaDryRunPeakBytes;
using testing::CudaDryRunTensor;
using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::FillNormal;
using testing::MaxAbs;
using testing::RelativeError;
using testing::TestContext;
using testing::TestTensor;
using testing::UnitRoundoff;

constexpr int64_t kRows = 6, kIn = 8, kOut = 9;

// Two layers and the GELU between them, y = gelu(x W1 + b1) W2^T + b2.
struct Layers {
  explicit Layers(int64_t width)
      : width(width),
        up(arena.Add({{"w1", width}}, {kIn, width}, true),
           arena.Add({{"b1", width}}, {width}, false)),
        down(arena.Add({{"w2", width}}, {kOut, width}, true),
             arena.Add({{"b2", kOut}}, {kOut}, false), /*transposed=*/true) {}

  // Fills both with the same numbers: those of the GPU, in f64.
  static void Fill(const Layers& gpu, const Layers& cpu, DType dtype) {
    auto to = cpu.arena.records().begin();
    uint64_t seed = 10;
    for (const ParameterRecord& from : gpu.arena.records()) {
      TestTensor host(dtype, from.shape());
      FillNormal(host, seed++, 0.5);
      ASSERT_TRUE(CopyBlocking(host, from.parameter.value).ok());
      CopyConvert(host, (to++)->parameter.value);
    }
  }

  void Run(const Context& ctx, const Tensor& x, const Tensor& dy) {
    LinearSaved saved_up, saved_down;
    const auto g = up.Forward(ctx, x, &saved_up, &u);
    ASSERT_TRUE(g.ok()) << g.status();
    const auto forward = down.Forward(ctx, *g, &saved_down);
    ASSERT_TRUE(forward.ok()) << forward.status();
    y = *forward;
    const auto backward = down.BackwardInput(ctx, dy, &saved_down, u).Wait();
    ASSERT_TRUE(backward.ok()) << backward.status();
    du = *backward;
    ASSERT_TRUE(down.BackwardWeight(ctx, dy, saved_down).ok());
    const auto last = up.BackwardInput(ctx, du, &saved_up).Wait();
    ASSERT_TRUE(last.ok()) << last.status();
    dx = *last;
    ASSERT_TRUE(up.BackwardWeight(ctx, du, saved_up).ok());
  }

  int64_t width;
  ParameterArena arena;
  Linear up, down;
  Tensor u, y, du, dx;
};

void ExpectNear(const char* name, const Tensor& on_gpu, const Tensor& truth, double tolerance) {
  const auto host = HostCopy::Of(on_gpu);
  ASSERT_TRUE(host.ok()) << host.status();
  EXPECT_GT(MaxAbs(truth), 0.1) << name;
  EXPECT_LE(RelativeError(host->tensor(), truth), tolerance) << name;
}

// For bf16, width 16 has the GELU fused into the products; width 10 has not.
TEST(LinearCudaTest, FollowsF64WithAGeluBetween) {
  for (const int64_t width : {16, 10}) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      SCOPED_TRACE(std::string(DTypeName(dtype)) + ", width " + std::to_string(width));
      const CudaTestContext gpu;
      const TestContext cpu;
      Layers layers(width), truth(width);
      ASSERT_TRUE(layers.arena.Allocate(dtype, true, Device::kCuda).ok());
      ASSERT_TRUE(truth.arena.Allocate(DType::kF64, true).ok());
      Layers::Fill(layers, truth, dtype);
      TestTensor x(dtype, {kRows, kIn}), dy(dtype, {kRows, kOut});
      TestTensor x64(DType::kF64, {kRows, kIn}), dy64(DType::kF64, {kRows, kOut});
      FillNormal(x, 1);
      FillNormal(dy, 2);
      CopyConvert(x, x64);
      CopyConvert(dy, dy64);
      const CudaTestTensor gpu_x(x), gpu_dy(dy);
      layers.Run(gpu, gpu_x, gpu_dy);
      truth.Run(cpu, x64, dy64);

      // A product errs by about sqrt(terms) roundings in f32, plus some 29 for bias and GELU,
      // through which an error grows at most 1.13-fold. Up to 3 tensors are then stored, rounded.
      // Results of several products have the errors of each, relative to its own largest element.
      const double product =
          1.13 * (4 * (std::sqrt(16) + 29) * UnitRoundoff(DType::kF32) + 3 * UnitRoundoff(dtype));
      ExpectNear("u", layers.u, truth.u, product);
      ExpectNear("y", layers.y, truth.y, 2 * product);
      ExpectNear("du", layers.du, truth.du, 2 * product);
      ExpectNear("dx", layers.dx, truth.dx, 3 * product);
      auto expected = truth.arena.records().begin();
      for (const ParameterRecord& record : layers.arena.records()) {
        EXPECT_EQ(record.parameter.grad.dtype(), DType::kF32);
        ExpectNear(record.name().c_str(), record.parameter.grad, (expected++)->parameter.grad,
                   3 * product);
      }
    }
  }
}

TEST(LinearCudaTest, TheDryRunPlansWhatTheRunNeeds) {
  for (const int64_t width : {16, 10}) {
    Layers plan(width), layers(width);
    plan.arena.AllocateDryRun(DType::kBf16, Device::kCuda);
    const size_t bytes = CudaDryRunPeakBytes([&](const Context& ctx) {
      plan.Run(ctx, CudaDryRunTensor(DType::kBf16, {kRows, kIn}),
               CudaDryRunTensor(DType::kBf16, {kRows, kOut}));
    });
    CudaTestContext ctx(bytes);
    ASSERT_TRUE(layers.arena.Allocate(DType::kBf16, true, Device::kCuda).ok());
    const CudaTestTensor x(DType::kBf16, {kRows, kIn}), dy(DType::kBf16, {kRows, kOut});
    layers.Run(ctx, x, dy);
    EXPECT_EQ(ctx.context().arena().peak_bytes(), bytes);
  }
}

}  // namespace
}  // namespace strake
