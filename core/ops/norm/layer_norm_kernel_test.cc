// The CUDA kernels of LayerNorm, under the emulator and on a GPU, against the reference in f64.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/norm/layer_norm_cuda.h"
#include "core/ops/norm/layer_norm_reference.h"
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
// The mean of x. Differences from the mean keep the variance; E[x^2] - mean^2 would lose that of
// the rows at 1000, below.
constexpr float kMean = 3;

struct Size {
  int64_t rows, columns;
};

// Buffers of one problem. They end at a guard page, where odd sizes are unaligned, or start at one,
// where all are aligned.
template <typename T>
struct Problem {
  Problem(Size size, GuardAt guard_at, float x_mean = kMean)
      : size(size),
        n(size.rows * size.columns),
        x("x", n, guard_at),
        residual("residual", n, guard_at),
        dy("dy", n, guard_at),
        sum("sum", n, guard_at),
        y("y", n, guard_at),
        dx("dx", n, guard_at),
        weight("weight", size.columns, guard_at),
        bias("bias", size.columns, guard_at),
        mean("mean", size.rows, guard_at),
        rstd("rstd", size.rows, guard_at),
        dweight("dweight", size.columns, guard_at),
        dbias("dbias", size.columns, guard_at),
        workspace("workspace",
                  cuda::LayerNormBackwardWorkspaceSize(size.rows, size.columns, sizeof(T)),
                  guard_at) {
    FillNormal(x, 1, 1, x_mean);
    FillNormal(residual, 2);
    FillNormal(dy, 3, 1, 0.5);
    FillNormal(weight, 4);
    FillNormal(bias, 5);
    ClearGradients();
  }

  void ClearGradients() {
    std::fill(dweight.begin(), dweight.end(), 0.f);
    std::fill(dbias.begin(), dbias.end(), 0.f);
  }

  absl::Status Forward(bool with_residual) {
    return cuda::LayerNormForward<T>(nullptr,
                                     {.x = x.data(),
                                      .residual = with_residual ? residual.data() : nullptr,
                                      .weight = weight.data(),
                                      .bias = bias.data(),
                                      .rows = size.rows,
                                      .columns = size.columns,
                                      .eps = kEps,
                                      .sum = with_residual ? sum.data() : nullptr,
                                      .y = y.data(),
                                      .mean = mean.data(),
                                      .rstd = rstd.data()});
  }

  // The backward pass of the norm of x.
  absl::Status Backward(bool accumulate_dx, T* to) {
    return cuda::LayerNormBackward<T>(nullptr, {.dy = dy.data(),
                                                .x = x.data(),
                                                .weight = weight.data(),
                                                .mean = mean.data(),
                                                .rstd = rstd.data(),
                                                .rows = size.rows,
                                                .columns = size.columns,
                                                .accumulate_dx = accumulate_dx,
                                                .dx = to,
                                                .dweight = dweight.data(),
                                                .dbias = dbias.data(),
                                                .workspace = workspace.data()});
  }

  Size size;
  int64_t n;
  GuardedBuffer<T> x, residual, dy, sum, y, dx, weight, bias;
  GuardedBuffer<float> mean, rstd, dweight, dbias, workspace;
};

template <typename T>
class LayerNormCudaTest : public ::testing::Test {};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(LayerNormCudaTest, Types);

// Rows too long for a block's registers: 9001 columns, and 8200 of f32.
constexpr Size kSizes[] = {{1, 1}, {3, 7},   {5, 64},   {2, 768},  {4, 1600}, {2, 4096},
                           {0, 8}, {37, 33}, {6, 1027}, {1, 9001}, {2, 8200}, {140, 100}};
// Several rows per block of the backward pass, which has 132 blocks of 16 warps for these columns.
constexpr Size kManyRows = {134, 8208};

// (x - mean) rstd inherits the error of the mean times rstd, which is about 1 on these rows. The
// mean's error is that of a sum of terms of about |mean|; 1 + |mean| covers the rest.
double NormalizedBound(int64_t columns, float mean) { return (1 + mean) * SumBound(columns); }

template <typename T>
void CheckForward(Problem<T>& p, bool with_residual, float x_mean) {
  ASSERT_EQ(p.Forward(with_residual), absl::OkStatus());
  if (with_residual) {
    for (int64_t i = 0; i < p.n; ++i) {
      const T expected(static_cast<float>(p.x[i]) + static_cast<float>(p.residual[i]));
      ASSERT_EQ(std::memcmp(&expected, &p.sum[i], sizeof(T)), 0) << i;
    }
  }
  const std::vector<double> x = ToDouble(with_residual ? p.sum : p.x), w = ToDouble(p.weight),
                            b = ToDouble(p.bias);
  std::vector<double> y(p.n), mean(p.size.rows), rstd(p.size.rows);
  reference::LayerNormForward<double>({.x = x.data(),
                                       .weight = w.data(),
                                       .bias = b.data(),
                                       .rows = p.size.rows,
                                       .columns = p.size.columns,
                                       .eps = kEps,
                                       .y = y.data(),
                                       .mean = mean.data(),
                                       .rstd = rstd.data()},
                                      0, p.size.rows);
  const double bound = NormalizedBound(p.size.columns, x_mean);
  ExpectNear(ToDouble(p.mean), mean, SumBound(p.size.columns), "mean");
  ExpectNear(ToDouble(p.rstd), rstd, bound, "rstd");
  ExpectNear(ToDouble(p.y), y, bound + kRoundoff<T>, "y");
}

TYPED_TEST(LayerNormCudaTest, ForwardFollowsTheReference) {
  for (const Size size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      for (const bool with_residual : {false, true}) {
        SCOPED_TRACE(::testing::Message()
                     << size.rows << " x " << size.columns << ", residual " << with_residual
                     << ", guard " << static_cast<int>(guard_at));
        Problem<TypeParam> p(size, guard_at);
        CheckForward(p, with_residual, kMean);
      }
    }
  }
}

TYPED_TEST(LayerNormCudaTest, RowsFarFromZero) {
  for (const Size size : {Size{3, 768}, Size{2, 9001}}) {
    Problem<TypeParam> p(size, GuardAt::kStart, 1000);
    CheckForward(p, false, 1000);
  }
}

template <typename T>
void CheckBackward(Size size, GuardAt guard_at) {
  SCOPED_TRACE(::testing::Message()
               << size.rows << " x " << size.columns << ", guard " << static_cast<int>(guard_at));
  Problem<T> p(size, guard_at);
  ASSERT_EQ(p.Forward(false), absl::OkStatus());
  ASSERT_EQ(p.Backward(false, p.dx.data()), absl::OkStatus());
  const std::vector<double> dy = ToDouble(p.dy), x = ToDouble(p.x), w = ToDouble(p.weight),
                            mean = ToDouble(p.mean), rstd = ToDouble(p.rstd);
  std::vector<double> dx(p.n), dweight(size.columns, 0.0), dbias(size.columns, 0.0);
  const LayerNormBackwardArgs<double, double> args = {.dy = dy.data(),
                                                      .x = x.data(),
                                                      .weight = w.data(),
                                                      .mean = mean.data(),
                                                      .rstd = rstd.data(),
                                                      .rows = size.rows,
                                                      .columns = size.columns,
                                                      .accumulate_dx = false,
                                                      .dx = dx.data(),
                                                      .dweight = dweight.data(),
                                                      .dbias = dbias.data()};
  reference::LayerNormBackwardInput(args, 0, size.rows);
  reference::LayerNormBackwardWeight(args, 0, size.columns);
  // With one column, x is the mean: dx is the difference of equal numbers, and dweight is 0.
  if (size.columns > 1) {
    ExpectNear(ToDouble(p.dx), dx, SumBound(size.columns) + kRoundoff<T>, "dx");
    if (size.rows > 0) ExpectNear(ToDouble(p.dweight), dweight, SumBound(size.rows), "dweight");
  }
  if (size.rows > 0) ExpectNear(ToDouble(p.dbias), dbias, SumBound(size.rows), "dbias");
}

TYPED_TEST(LayerNormCudaTest, BackwardFollowsTheReference) {
  for (const Size size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      CheckBackward<TypeParam>(size, guard_at);
    }
  }
}

// Column counts are a multiple of the vector width, but one tensor is at an unaligned address.
TYPED_TEST(LayerNormCudaTest, AnyTensorMayBeUnaligned) {
  for (int unaligned = 0; unaligned < 11; ++unaligned) {
    SCOPED_TRACE(unaligned);
    Problem<TypeParam> p({4, 64}, GuardAt::kStart);
    const auto at = [&](const auto& buffer, int i) { return buffer.data() + (i == unaligned); };
    ASSERT_EQ(cuda::LayerNormForward<TypeParam>(nullptr, {.x = at(p.x, 0),
                                                          .residual = at(p.residual, 1),
                                                          .weight = at(p.weight, 2),
                                                          .bias = at(p.bias, 3),
                                                          .rows = 3,
                                                          .columns = 56,
                                                          .eps = kEps,
                                                          .sum = at(p.sum, 4),
                                                          .y = at(p.y, 5),
                                                          .mean = p.mean.data(),
                                                          .rstd = p.rstd.data()}),
              absl::OkStatus());
    ASSERT_EQ(cuda::LayerNormBackward<TypeParam>(nullptr, {.dy = at(p.dy, 6),
                                                           .x = at(p.sum, 4),
                                                           .weight = at(p.weight, 2),
                                                           .mean = p.mean.data(),
                                                           .rstd = p.rstd.data(),
                                                           .rows = 3,
                                                           .columns = 56,
                                                           .accumulate_dx = false,
                                                           .dx = at(p.dx, 7),
                                                           .dweight = at(p.dweight, 8),
                                                           .dbias = at(p.dbias, 9),
                                                           .workspace = at(p.workspace, 10)}),
              absl::OkStatus());
    EXPECT_TRUE(std::isfinite(static_cast<float>(at(p.y, 5)[3 * 56 - 1])));
    EXPECT_TRUE(std::isfinite(static_cast<float>(at(p.dx, 7)[3 * 56 - 1])));
  }
}

TYPED_TEST(LayerNormCudaTest, AccumulatesAndWorksInPlace) {
  Problem<TypeParam> p({5, 72}, GuardAt::kStart), plain({5, 72}, GuardAt::kStart);
  ASSERT_EQ(plain.Forward(true), absl::OkStatus());
  ASSERT_EQ(cuda::LayerNormForward<TypeParam>(nullptr, {.x = p.x.data(),
                                                        .residual = p.residual.data(),
                                                        .weight = p.weight.data(),
                                                        .bias = p.bias.data(),
                                                        .rows = 5,
                                                        .columns = 72,
                                                        .eps = kEps,
                                                        .sum = p.residual.data(),
                                                        .y = p.x.data(),
                                                        .mean = p.mean.data(),
                                                        .rstd = p.rstd.data()}),
            absl::OkStatus());
  EXPECT_TRUE(SameBits(p.residual, Copy(plain.sum)));
  EXPECT_TRUE(SameBits(p.x, Copy(plain.y)));

  FillNormal(p.x, 1);
  ASSERT_EQ(p.Forward(false), absl::OkStatus());
  ASSERT_EQ(p.Backward(false, p.dx.data()), absl::OkStatus());
  const std::vector<TypeParam> dx = Copy(p.dx);
  const std::vector<float> dweight = Copy(p.dweight), dbias = Copy(p.dbias);
  std::fill(p.dx.begin(), p.dx.end(), TypeParam(3));
  ASSERT_EQ(p.Backward(true, p.dx.data()), absl::OkStatus());
  for (int i = 0; i < p.n; ++i) {
    const float sum = 3 + static_cast<float>(dx[i]);
    // dx was rounded, and its sum with 3 is rounded again.
    EXPECT_NEAR(static_cast<float>(p.dx[i]), sum,
                kRoundoff<TypeParam> * (std::abs(sum) + std::abs(sum - 3)) + 1e-6);
  }
  for (int i = 0; i < 72; ++i) {
    EXPECT_EQ(p.dweight[i], 2 * dweight[i]);
    EXPECT_EQ(p.dbias[i], 2 * dbias[i]);
  }
  ASSERT_EQ(p.Backward(false, p.dy.data()), absl::OkStatus());
  EXPECT_TRUE(SameBits(p.dy, dx));
}

template <typename T>
void CheckOrders(Size size, uint64_t num_orders) {
  Problem<T> p(size, GuardAt::kStart);
  ASSERT_EQ(p.Forward(false), absl::OkStatus());
  ASSERT_EQ(p.Backward(false, p.dx.data()), absl::OkStatus());
  const std::vector<T> y = Copy(p.y), dx = Copy(p.dx);
  const std::vector<float> dweight = Copy(p.dweight), dbias = Copy(p.dbias);
  for (uint64_t seed = 0; seed < num_orders; ++seed) {
    SCOPED_TRACE(seed);
    const ScopedRandomCudaOrder order(seed);
    p.ClearGradients();
    ASSERT_EQ(p.Forward(false), absl::OkStatus());
    ASSERT_EQ(p.Backward(false, p.dx.data()), absl::OkStatus());
    EXPECT_TRUE(SameBits(p.y, y));
    EXPECT_TRUE(SameBits(p.dx, dx));
    EXPECT_TRUE(SameBits(p.dweight, dweight));
    EXPECT_TRUE(SameBits(p.dbias, dbias));
  }
}

TYPED_TEST(LayerNormCudaTest, TheSameBitsInEveryOrderOfThreads) {
  CheckOrders<TypeParam>({3, 1600}, 2);
  CheckOrders<TypeParam>({37, 33}, 2);
  CheckOrders<TypeParam>({2130, 40}, 1);  // two rows in some of 2112 blocks
}

// A million elements, so only once.
TEST(LayerNormCudaManyRowsTest, BackwardFollowsTheReference) {
  CheckBackward<Bf16>(kManyRows, GuardAt::kStart);
}

}  // namespace
}  // namespace strake
