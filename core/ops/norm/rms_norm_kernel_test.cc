// The CUDA kernels of RMSNorm, under the emulator and on a GPU, against the reference in f64.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/norm/rms_norm_cuda.h"
#include "core/ops/norm/rms_norm_reference.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::Copy;
using testing::ExpectNear;
using testing::FillNormal;
using testing::GuardAt;
using testing::GuardedBuffer;
using testing::kRoundoff;
using testing::SameBits;
using testing::ScopedRandomCudaOrder;
using testing::SumBound;
using testing::ToDouble;

constexpr float kEps = 1e-5f;

struct Size {
  int64_t rows, columns;
};

// Buffers of one problem. They end at a guard page, where odd sizes are unaligned, or start at one,
// where all are aligned.
template <typename T>
struct Problem {
  Problem(Size size, GuardAt guard_at)
      : size(size),
        n(size.rows * size.columns),
        x("x", n, guard_at),
        residual("residual", n, guard_at),
        dy("dy", n, guard_at),
        sum("sum", n, guard_at),
        y("y", n, guard_at),
        dx("dx", n, guard_at),
        weight("weight", size.columns, guard_at),
        rstd("rstd", size.rows, guard_at),
        dweight("dweight", size.columns, guard_at),
        workspace("workspace",
                  cuda::RmsNormBackwardWorkspaceSize(size.rows, size.columns, sizeof(T)),
                  guard_at) {
    FillNormal(x, 1);
    FillNormal(residual, 2);
    FillNormal(dy, 3);
    FillNormal(weight, 4);
    std::fill(dweight.begin(), dweight.end(), 0.f);
  }

  absl::Status Forward(bool with_residual, double weight_offset = 0) {
    return cuda::RmsNormForward<T>(nullptr, {.x = x.data(),
                                             .residual = with_residual ? residual.data() : nullptr,
                                             .weight = weight.data(),
                                             .rows = size.rows,
                                             .columns = size.columns,
                                             .eps = kEps,
                                             .weight_offset = weight_offset,
                                             .sum = with_residual ? sum.data() : nullptr,
                                             .y = y.data(),
                                             .rstd = rstd.data()});
  }

  // The backward pass of the norm of x.
  absl::Status Backward(bool accumulate_dx, T* to, double weight_offset = 0) {
    return cuda::RmsNormBackward<T>(nullptr, {.dy = dy.data(),
                                              .x = x.data(),
                                              .weight = weight.data(),
                                              .rstd = rstd.data(),
                                              .rows = size.rows,
                                              .columns = size.columns,
                                              .weight_offset = weight_offset,
                                              .accumulate_dx = accumulate_dx,
                                              .dx = to,
                                              .dweight = dweight.data(),
                                              .workspace = workspace.data()});
  }

  Size size;
  int64_t n;
  GuardedBuffer<T> x, residual, dy, sum, y, dx, weight;
  GuardedBuffer<float> rstd, dweight, workspace;
};

template <typename T>
class RmsNormCudaTest : public ::testing::Test {};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(RmsNormCudaTest, Types);

// Rows too long for a block's registers: 9001 columns, and 8200 of f32.
constexpr Size kSizes[] = {{1, 1}, {3, 7},   {5, 64},   {2, 768},  {4, 1600}, {2, 4096},
                           {0, 8}, {37, 33}, {6, 1027}, {1, 9001}, {2, 8200}, {140, 100}};
// Several rows per block of the backward pass, which has 132 blocks of 16 warps for these columns.
constexpr Size kManyRows = {140, 8208};

template <typename T>
void CheckForward(Problem<T>& p, bool with_residual, double weight_offset) {
  ASSERT_EQ(p.Forward(with_residual, weight_offset), absl::OkStatus());
  if (with_residual) {
    for (int64_t i = 0; i < p.n; ++i) {
      const T expected(static_cast<float>(p.x[i]) + static_cast<float>(p.residual[i]));
      ASSERT_EQ(std::memcmp(&expected, &p.sum[i], sizeof(T)), 0) << i;
    }
  }
  const std::vector<double> x = ToDouble(with_residual ? p.sum : p.x), w = ToDouble(p.weight);
  std::vector<double> y(p.n), rstd(p.size.rows);
  reference::RmsNormForward<double>({.x = x.data(),
                                     .weight = w.data(),
                                     .rows = p.size.rows,
                                     .columns = p.size.columns,
                                     .eps = kEps,
                                     .weight_offset = weight_offset,
                                     .y = y.data(),
                                     .rstd = rstd.data()},
                                    0, p.size.rows);
  ExpectNear(ToDouble(p.rstd), rstd, SumBound(p.size.columns), "rstd");
  ExpectNear(ToDouble(p.y), y, SumBound(p.size.columns) + kRoundoff<T>, "y");
}

TYPED_TEST(RmsNormCudaTest, ForwardFollowsTheReference) {
  for (const Size size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      for (const bool with_residual : {false, true}) {
        SCOPED_TRACE(::testing::Message()
                     << size.rows << " x " << size.columns << ", residual " << with_residual
                     << ", guard " << static_cast<int>(guard_at));
        Problem<TypeParam> p(size, guard_at);
        CheckForward(p, with_residual, 0);
        CheckForward(p, with_residual, 1);
      }
    }
  }
}

template <typename T>
void CheckBackward(Size size, GuardAt guard_at, double weight_offset) {
  SCOPED_TRACE(::testing::Message() << size.rows << " x " << size.columns << ", weight offset "
                                    << weight_offset << ", guard " << static_cast<int>(guard_at));
  Problem<T> p(size, guard_at);
  ASSERT_EQ(p.Forward(false, weight_offset), absl::OkStatus());
  ASSERT_EQ(p.Backward(false, p.dx.data(), weight_offset), absl::OkStatus());
  const std::vector<double> dy = ToDouble(p.dy), x = ToDouble(p.x), w = ToDouble(p.weight),
                            rstd = ToDouble(p.rstd);
  std::vector<double> dx(p.n), dweight(size.columns, 0.0);
  const RmsNormBackwardArgs<double, double> args = {.dy = dy.data(),
                                                    .x = x.data(),
                                                    .weight = w.data(),
                                                    .rstd = rstd.data(),
                                                    .rows = size.rows,
                                                    .columns = size.columns,
                                                    .weight_offset = weight_offset,
                                                    .accumulate_dx = false,
                                                    .dx = dx.data(),
                                                    .dweight = dweight.data()};
  reference::RmsNormBackwardInput(args, 0, size.rows);
  reference::RmsNormBackwardWeight(args, 0, size.columns);
  // With one column, dx is the difference of two numbers that are equal except for eps.
  if (size.columns > 1) {
    ExpectNear(ToDouble(p.dx), dx, SumBound(size.columns) + kRoundoff<T>, "dx");
  }
  if (size.rows > 0) ExpectNear(ToDouble(p.dweight), dweight, SumBound(size.rows), "dweight");
}

TYPED_TEST(RmsNormCudaTest, BackwardFollowsTheReference) {
  for (const Size size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      for (const double offset : {0, 1}) CheckBackward<TypeParam>(size, guard_at, offset);
    }
  }
  CheckBackward<TypeParam>(kManyRows, GuardAt::kStart, 1);
}

// Column counts are a multiple of the vector width, but one tensor is at an unaligned address.
TYPED_TEST(RmsNormCudaTest, AnyTensorMayBeUnaligned) {
  for (int unaligned = 0; unaligned < 9; ++unaligned) {
    SCOPED_TRACE(unaligned);
    Problem<TypeParam> p({4, 64}, GuardAt::kStart);
    const auto at = [&](const auto& buffer, int i) { return buffer.data() + (i == unaligned); };
    ASSERT_EQ(cuda::RmsNormForward<TypeParam>(nullptr, {.x = at(p.x, 0),
                                                        .residual = at(p.residual, 1),
                                                        .weight = at(p.weight, 2),
                                                        .rows = 3,
                                                        .columns = 56,
                                                        .eps = kEps,
                                                        .sum = at(p.sum, 3),
                                                        .y = at(p.y, 4),
                                                        .rstd = p.rstd.data()}),
              absl::OkStatus());
    ASSERT_EQ(cuda::RmsNormBackward<TypeParam>(nullptr, {.dy = at(p.dy, 5),
                                                         .x = at(p.sum, 3),
                                                         .weight = at(p.weight, 2),
                                                         .rstd = p.rstd.data(),
                                                         .rows = 3,
                                                         .columns = 56,
                                                         .accumulate_dx = false,
                                                         .dx = at(p.dx, 6),
                                                         .dweight = at(p.dweight, 7),
                                                         .workspace = at(p.workspace, 8)}),
              absl::OkStatus());
    EXPECT_TRUE(std::isfinite(static_cast<float>(at(p.y, 4)[3 * 56 - 1])));
    EXPECT_TRUE(std::isfinite(static_cast<float>(at(p.dx, 6)[3 * 56 - 1])));
  }
}

TYPED_TEST(RmsNormCudaTest, AccumulatesAndWorksInPlace) {
  Problem<TypeParam> p({5, 72}, GuardAt::kStart), plain({5, 72}, GuardAt::kStart);
  ASSERT_EQ(plain.Forward(true), absl::OkStatus());
  ASSERT_EQ(cuda::RmsNormForward<TypeParam>(nullptr, {.x = p.x.data(),
                                                      .residual = p.residual.data(),
                                                      .weight = p.weight.data(),
                                                      .rows = 5,
                                                      .columns = 72,
                                                      .eps = kEps,
                                                      .sum = p.residual.data(),
                                                      .y = p.x.data(),
                                                      .rstd = p.rstd.data()}),
            absl::OkStatus());
  EXPECT_TRUE(SameBits(p.residual, Copy(plain.sum)));
  EXPECT_TRUE(SameBits(p.x, Copy(plain.y)));

  FillNormal(p.x, 1);
  ASSERT_EQ(p.Forward(false), absl::OkStatus());
  ASSERT_EQ(p.Backward(false, p.dx.data()), absl::OkStatus());
  const std::vector<TypeParam> dx = Copy(p.dx);
  const std::vector<float> dweight = Copy(p.dweight);
  std::fill(p.dx.begin(), p.dx.end(), TypeParam(3));
  ASSERT_EQ(p.Backward(true, p.dx.data()), absl::OkStatus());
  for (int i = 0; i < p.n; ++i) {
    const float sum = 3 + static_cast<float>(dx[i]);
    // dx was rounded, and its sum with 3 is rounded again.
    EXPECT_NEAR(static_cast<float>(p.dx[i]), sum,
                kRoundoff<TypeParam> * (std::abs(sum) + std::abs(sum - 3)) + 1e-6);
  }
  for (int i = 0; i < 72; ++i) EXPECT_EQ(p.dweight[i], 2 * dweight[i]);
  ASSERT_EQ(p.Backward(false, p.dy.data()), absl::OkStatus());
  EXPECT_TRUE(SameBits(p.dy, dx));
}

TYPED_TEST(RmsNormCudaTest, TheSameBitsInEveryOrderOfThreads) {
  for (const Size size : {Size{3, 1600}, Size{37, 33}, kManyRows}) {
    Problem<TypeParam> p(size, GuardAt::kStart);
    std::vector<TypeParam> y, dx;
    std::vector<float> dweight;
    for (uint64_t seed = 0; seed < 3; ++seed) {
      std::optional<ScopedRandomCudaOrder> order;
      if (seed > 0) order.emplace(seed);
      std::fill(p.dweight.begin(), p.dweight.end(), 0.f);
      ASSERT_EQ(p.Forward(true), absl::OkStatus());
      ASSERT_EQ(p.Backward(false, p.dx.data()), absl::OkStatus());
      if (seed == 0) {
        y = Copy(p.y);
        dx = Copy(p.dx);
        dweight = Copy(p.dweight);
      }
      EXPECT_TRUE(SameBits(p.y, y)) << seed;
      EXPECT_TRUE(SameBits(p.dx, dx)) << seed;
      EXPECT_TRUE(SameBits(p.dweight, dweight)) << seed;
    }
  }
}

}  // namespace
}  // namespace strake
