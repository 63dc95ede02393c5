// The CUDA kernels of the bias, under the emulator and on a GPU, against the reference.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/bias_add/bias_add_cuda.h"
#include "core/ops/bias_add/bias_add_reference.h"
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
using testing::SameBits;
using testing::ScopedRandomCudaOrder;
using testing::SumBound;
using testing::ToDouble;

template <typename T>
class BiasAddCudaTest : public ::testing::Test {};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(BiasAddCudaTest, Types);

struct Size {
  int64_t rows, columns;
};

// Vectors and single elements; one chunk of columns, and several (above 256 vectors or elements) of
// which the last is not full; rows that do not fill the last tile. Also more rows than the backward
// pass has partial sums (132 on these columns, 2112 on the last); it adds the partial sums 32 at a
// time.
constexpr Size kSizes[] = {{1, 1}, {3, 7}, {5, 64},  {2, 768},  {4, 1600},   {2, 4096},
                           {0, 8}, {4, 0}, {37, 33}, {6, 1027}, {150, 8000}, {2500, 3}};

template <typename T>
struct Problem {
  Problem(Size size, GuardAt guard_at)
      : size(size),
        x("x", size.rows * size.columns, guard_at),
        y("y", size.rows * size.columns, guard_at),
        bias("bias", size.columns, guard_at),
        dbias("dbias", size.columns, guard_at),
        workspace("workspace", cuda::BiasAddBackwardWorkspaceSize(size.rows, size.columns),
                  guard_at) {
    FillNormal(x, 1);
    FillNormal(bias, 2);
    std::fill(dbias.begin(), dbias.end(), 0.f);
  }
  absl::Status Forward(T* to) {
    return cuda::BiasAddForward<T>(
        nullptr,
        {.x = x.data(), .bias = bias.data(), .rows = size.rows, .columns = size.columns, .y = to});
  }
  // Runs the backward pass with x as the gradient.
  absl::Status Backward() {
    return cuda::BiasAddBackward<T>(nullptr, {.dy = x.data(),
                                              .rows = size.rows,
                                              .columns = size.columns,
                                              .dbias = dbias.data(),
                                              .workspace = workspace.data()});
  }

  Size size;
  GuardedBuffer<T> x, y, bias;
  GuardedBuffer<float> dbias, workspace;
};

// One addition and one rounding: every bit must match.
template <typename T>
void ExpectSums(const T* x, const T* bias, Size size, const T* y) {
  for (int64_t i = 0; i < size.rows * size.columns; ++i) {
    const T sum(static_cast<float>(x[i]) + static_cast<float>(bias[i % size.columns]));
    ASSERT_EQ(static_cast<float>(y[i]), static_cast<float>(sum)) << i;
  }
}

template <typename T>
void ExpectColumnSums(const T* dy, Size size, const float* dbias) {
  if (size.rows == 0) return;
  const std::vector<double> d = ToDouble(dy, size.rows * size.columns);
  std::vector<double> truth(size.columns, 0.0);
  reference::BiasAddBackward(d.data(), size.rows, size.columns, 0, size.columns, truth.data());
  ExpectNear(ToDouble(dbias, size.columns), truth, SumBound(size.rows), "dbias");
}

TYPED_TEST(BiasAddCudaTest, FollowsTheReference) {
  for (const Size size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      SCOPED_TRACE(::testing::Message() << size.rows << " x " << size.columns);
      Problem<TypeParam> p(size, guard_at);
      ASSERT_EQ(p.Forward(p.y.data()), absl::OkStatus());
      ExpectSums(p.x.data(), p.bias.data(), size, p.y.data());
      ASSERT_EQ(p.Backward(), absl::OkStatus());
      ExpectColumnSums(p.x.data(), size, p.dbias.data());
    }
  }
}

// Integers, so every sum is exact.
TYPED_TEST(BiasAddCudaTest, AccumulatesTheGradient) {
  for (const Size size : {Size{0, 8}, Size{200, 72}, Size{2300, 33}}) {
    Problem<TypeParam> p(size, GuardAt::kStart);
    std::vector<float> expected(size.columns, 5);
    for (size_t i = 0; i < p.x.size(); ++i) {
      const int value = static_cast<int>(i * 7 % 31) - 15;
      p.x[i] = TypeParam(static_cast<float>(value));
      expected[i % size.columns] += value;
    }
    std::fill(p.dbias.begin(), p.dbias.end(), 5.f);
    ASSERT_EQ(p.Backward(), absl::OkStatus());
    EXPECT_TRUE(SameBits(p.dbias, expected)) << size.rows;
  }
}

TYPED_TEST(BiasAddCudaTest, AnyTensorMayBeUnaligned) {
  for (int unaligned = 0; unaligned < 5; ++unaligned) {
    SCOPED_TRACE(unaligned);
    Problem<TypeParam> p({4, 64}, GuardAt::kStart);
    const auto at = [&](const auto& buffer, int i) { return buffer.data() + (i == unaligned); };
    ASSERT_EQ(
        cuda::BiasAddForward<TypeParam>(
            nullptr,
            {.x = at(p.x, 0), .bias = at(p.bias, 1), .rows = 3, .columns = 56, .y = at(p.y, 2)}),
        absl::OkStatus());
    ASSERT_EQ(cuda::BiasAddBackward<TypeParam>(nullptr, {.dy = at(p.x, 0),
                                                         .rows = 3,
                                                         .columns = 56,
                                                         .dbias = at(p.dbias, 3),
                                                         .workspace = at(p.workspace, 4)}),
              absl::OkStatus());
    ExpectSums(at(p.x, 0), at(p.bias, 1), {3, 56}, at(p.y, 2));
    ExpectColumnSums(at(p.x, 0), {3, 56}, at(p.dbias, 3));
  }
}

TYPED_TEST(BiasAddCudaTest, InPlaceAndInEveryOrderTheSameBits) {
  for (const Size size : {Size{6, 1027}, Size{150, 1600}, Size{2500, 40}}) {
    Problem<TypeParam> p(size, GuardAt::kStart);
    ASSERT_EQ(p.Forward(p.y.data()), absl::OkStatus());
    ASSERT_EQ(p.Backward(), absl::OkStatus());
    const std::vector<TypeParam> y = Copy(p.y);
    const std::vector<float> dbias = Copy(p.dbias);
    for (uint64_t seed = 1; seed < 3; ++seed) {
      const ScopedRandomCudaOrder order(seed);
      std::fill(p.dbias.begin(), p.dbias.end(), 0.f);
      ASSERT_EQ(p.Backward(), absl::OkStatus());
      EXPECT_TRUE(SameBits(p.dbias, dbias)) << seed;
    }
    const ScopedRandomCudaOrder order(3);
    ASSERT_EQ(p.Forward(p.x.data()), absl::OkStatus());
    EXPECT_TRUE(SameBits(p.x, y));
  }
}

}  // namespace
}  // namespace strake
