// The ops of the optimizer on a GPU: adamw, squared_norm, clip_scale and sum.
#include <cmath>
#include <cstdint>

#include "core/base/exact_sum.h"
#include "core/ops/adamw/adamw.h"
#include "core/ops/clip_scale/clip_scale.h"
#include "core/ops/copy/copy.h"
#include "core/ops/squared_norm/squared_norm.h"
#include "core/ops/sum/sum.h"
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
using testing::FillConstant;
using testing::FillNormal;
using testing::FillSmallIntegers;
using testing::GetElement;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;

struct HostTensor : TestTensor {
  HostTensor(DType dtype, int64_t size, uint64_t seed, double scale = 1)
      : TestTensor(dtype, {size}) {
    FillNormal(*this, seed, scale);
  }
};

struct HostClip : TestTensor {
  HostClip(double norm, double scale) : TestTensor(DType::kF64, {2}) {
    tensor().data<double>()[0] = norm;
    tensor().data<double>()[1] = scale;
  }
};

struct HostScalars : TestTensor {
  HostScalars(DType dtype, const AdamWStep& step) : TestTensor(dtype, {kNumAdamWScalars}) {
    SetAdamWScalars(step, *this);
  }
};

AdamWStep StepOf(int64_t t) { return {.lr = 1e-2, .weight_decay = 0.1, .step = t}; }

struct CudaState {
  explicit CudaState(int64_t size)
      : weight(HostTensor(DType::kF32, size, 1)),
        m(DType::kF32, {size}),
        v(DType::kF32, {size}),
        rounded(HostTensor(DType::kBf16, size, 9)) {}

  void Run(const Context& ctx, int64_t t, double norm, double scale) {
    const int64_t size = Tensor(weight).num_elements();
    const CudaTestTensor grad(HostTensor(DType::kF32, size, 100 + t));
    Run(ctx, t, norm, scale, grad, 0, size);
  }
  void Run(const Context& ctx, int64_t t, double norm, double scale, const Tensor& grad,
           int64_t begin, int64_t end) {
    const CudaTestTensor scalars(HostScalars(DType::kF32, StepOf(t)));
    const CudaTestTensor clip(HostClip(norm, scale));
    const auto part = [&](const Tensor& x) { return x.Rows(begin, end); };
    ASSERT_TRUE(AdamWUpdate(ctx,
                            {.scalars = scalars,
                             .clip = clip,
                             .grad = part(grad),
                             .weight = part(weight),
                             .exp_avg = part(m),
                             .exp_avg_sq = part(v),
                             .rounded = part(rounded)},
                            /*weight_decay=*/true)
                    .ok());
    ASSERT_TRUE(SynchronizeCudaStream(ctx.cuda_stream()).ok());
  }

  CudaTestTensor weight, m, v, rounded;
};

TEST(AdamWOnCudaTest, FollowsF64) {
  constexpr int64_t kSize = 3001, kSteps = 3;
  const CudaTestContext ctx;
  const TestContext cpu;
  CudaState got(kSize);
  const HostTensor weight(DType::kF64, kSize, 1);
  CopyConvert(got.weight.ToHost(), weight);  // as rounded to f32
  const TestTensor m(DType::kF64, {kSize}), v(DType::kF64, {kSize});
  FillConstant(m, 0);
  FillConstant(v, 0);
  for (int64_t t = 1; t <= kSteps; ++t) {
    got.Run(ctx, t, /*norm=*/2, /*scale=*/0.3);
    const HostTensor grad(DType::kF64, kSize, 100 + t);
    ASSERT_TRUE(AdamWUpdate(cpu,
                            {.scalars = HostScalars(DType::kF64, StepOf(t)),
                             .clip = HostClip(2, 0.3),
                             .grad = grad,
                             .weight = weight,
                             .exp_avg = m,
                             .exp_avg_sq = v},
                            true)
                    .ok());
  }
  // The bound of adamw_test.cc for f32 on the CPU, plus that of gradients that were rounded to f32.
  EXPECT_LE(RelativeError(got.weight.ToHost(), weight), kSteps * (2 + 12 * 1e-2) * 0x1p-24);
  EXPECT_LE(RelativeError(got.m.ToHost(), m), 5 * kSteps * 0x1p-24);
  EXPECT_LE(RelativeError(got.v.ToHost(), v), 6 * kSteps * 0x1p-24);
  EXPECT_GT(RelativeError(got.weight.ToHost(), HostTensor(DType::kF32, kSize, 1)), 1e-3);
  const TestTensor rounded(DType::kBf16, {kSize});
  CopyConvert(got.weight.ToHost(), rounded);
  EXPECT_TRUE(SameBits(got.rounded.ToHost(), rounded));
}

TEST(AdamWOnCudaTest, RangesGiveTheSameBits) {
  constexpr int64_t kSize = 1500;
  const CudaTestContext ctx;
  CudaState whole(kSize), parts(kSize);
  whole.Run(ctx, 1, 2, 0.3);
  const CudaTestTensor grad(HostTensor(DType::kF32, kSize, 101));
  int64_t begin = 0;
  for (const int64_t end : {int64_t{0}, int64_t{1}, int64_t{77}, int64_t{1024}, kSize}) {
    parts.Run(ctx, 1, 2, 0.3, grad, begin, end);
    begin = end;
  }
  EXPECT_GT(MaxAbs(whole.m.ToHost()), 0);
  EXPECT_TRUE(SameBits(whole.weight.ToHost(), parts.weight.ToHost()));
  EXPECT_TRUE(SameBits(whole.m.ToHost(), parts.m.ToHost()));
  EXPECT_TRUE(SameBits(whole.v.ToHost(), parts.v.ToHost()));
  EXPECT_TRUE(SameBits(whole.rounded.ToHost(), parts.rounded.ToHost()));
}

// From the sum of squares to the update, no value passes through the host.
TEST(AdamWOnCudaTest, NothingChangesAfterANormThatIsNotFinite) {
  constexpr int64_t kSize = 100;
  const CudaTestContext ctx;
  for (const double bad : {1., double{INFINITY}, double{NAN}}) {
    SCOPED_TRACE(bad);
    const HostTensor host(DType::kF32, kSize, 101);
    host->data<float>()[17] = bad;
    const CudaTestTensor grad(host), sum(DType::kI64, {kExactSumLimbs}), clip(DType::kF64, {2}),
        scalars(HostScalars(DType::kF32, StepOf(1)));
    CudaState s(kSize), start(kSize);
    ASSERT_TRUE(SetZero(ctx, sum).ok());
    ASSERT_TRUE(SquaredNormForward(ctx, grad, sum).ok());
    ASSERT_TRUE(ClipScale(ctx, sum, /*clip_norm=*/1, clip).ok());
    ASSERT_TRUE(AdamWUpdate(ctx,
                            {.scalars = scalars,
                             .clip = clip,
                             .grad = grad,
                             .weight = s.weight,
                             .exp_avg = s.m,
                             .exp_avg_sq = s.v,
                             .rounded = s.rounded},
                            true)
                    .ok());
    const bool unchanged = !std::isfinite(bad);
    EXPECT_EQ(SameBits(s.weight.ToHost(), start.weight.ToHost()), unchanged);
    EXPECT_EQ(SameBits(s.m.ToHost(), start.m.ToHost()), unchanged);
    EXPECT_EQ(SameBits(s.v.ToHost(), start.v.ToHost()), unchanged);
    EXPECT_EQ(SameBits(s.rounded.ToHost(), start.rounded.ToHost()), unchanged);
  }
}

TEST(SquaredNormOnCudaTest, GivesTheBitsOfTheCpu) {
  const TestContext cpu;
  for (const int64_t size : {0, 1, 1025, 5000}) {
    const CudaTestContext ctx;
    const TestTensor expected(DType::kI64, {kExactSumLimbs});
    const HostTensor x(DType::kF32, size, 1);
    FillConstant(expected, 0);
    const CudaTestTensor sum(expected);
    ASSERT_TRUE(SquaredNormForward(cpu, x, expected).ok());
    ASSERT_TRUE(SquaredNormForward(ctx, CudaTestTensor(x), sum).ok());
    EXPECT_TRUE(SameBits(sum.ToHost(), expected)) << size;
    const size_t planned = CudaDryRunPeakBytes([&](const Context& ctx) {
      ASSERT_TRUE(SquaredNormForward(ctx, CudaDryRunTensor(DType::kF32, {size}),
                                     CudaDryRunTensor(DType::kI64, {kExactSumLimbs}))
                      .ok());
    });
    EXPECT_EQ(Context(ctx).arena().peak_bytes(), planned);
    EXPECT_EQ(Context(ctx).arena().used_bytes(), 0);
  }
}

TEST(SquaredNormOnCudaTest, BackwardGivesTheBitsOfTheCpu) {
  const CudaTestContext ctx;
  const TestContext cpu;
  const HostTensor x(DType::kF32, 1027, 1), dsum(DType::kF64, 1, 2);
  const TestTensor expected(DType::kF32, {1027});
  ASSERT_TRUE(SquaredNormBackward(cpu, x, dsum, expected).ok());
  const CudaTestTensor dx(x);
  ASSERT_TRUE(SquaredNormBackward(ctx, dx, CudaTestTensor(dsum), dx).ok());
  EXPECT_TRUE(SameBits(dx.ToHost(), expected));
}

TEST(ClipScaleOnCudaTest, GivesTheBitsOfTheCpu) {
  const CudaTestContext ctx;
  const TestContext cpu;
  for (const double sum : {0., 0.3, 1., 7.7, 1e79, double{INFINITY}, double{NAN}}) {
    for (const double clip_norm : {0., 0.5, 1., 1e200}) {
      SCOPED_TRACE(::testing::Message() << "sum " << sum << ", clip_norm " << clip_norm);
      const TestTensor host_sum(DType::kI64, {kExactSumLimbs}), scale(DType::kF64, {1}),
          expected(DType::kF64, {2});
      FillConstant(host_sum, 0);
      AddToExactSum(sum, host_sum->data<int64_t>());
      FillConstant(scale, 1.7);
      ASSERT_TRUE(ClipScale(cpu, host_sum, clip_norm, expected, scale).ok());
      const CudaTestTensor clip(DType::kF64, {2});
      ASSERT_TRUE(
          ClipScale(ctx, CudaTestTensor(host_sum), clip_norm, clip, CudaTestTensor(scale)).ok());
      const HostCopy got = clip.ToHost();
      for (int i = 0; i < 2; ++i) {
        const double a = GetElement(got, i).real(), b = GetElement(expected, i).real();
        EXPECT_TRUE(a == b || (std::isnan(a) && std::isnan(b))) << i << ": " << a << ", " << b;
      }
    }
  }
}

TEST(SumOnCudaTest, AddsToTheTotal) {
  const CudaTestContext ctx;
  const TestContext cpu;
  const TestTensor total(DType::kF64, {1});
  FillConstant(total, 0.5);
  const CudaTestTensor got(total);
  for (const int64_t size : {1, 1023, 0, 10000}) {
    const TestTensor x(DType::kF32, {size});
    FillSmallIntegers(x, 1 + size);
    ASSERT_TRUE(AddSum(cpu, x, total).ok());
    ASSERT_TRUE(AddSum(ctx, CudaTestTensor(x), got).ok());
    EXPECT_TRUE(SameBits(got.ToHost(), total)) << size;
  }
}

// In f32, all terms but the first would be lost.
TEST(SumOnCudaTest, SumsAreDouble) {
  const CudaTestContext ctx;
  const TestTensor x(DType::kF32, {1500});
  FillConstant(x, 1);
  x->data<float>()[0] = 0x1p40f;
  const CudaTestTensor total(DType::kF64, {1});
  ASSERT_TRUE(AddSum(ctx, CudaTestTensor(x), total).ok());
  EXPECT_EQ(GetElement(total.ToHost(), 0), 0x1p40 + 1499);
}

}  // namespace
}  // namespace strake
