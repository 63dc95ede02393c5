// The CUDA kernels of the position embedding, under the emulator and on a GPU, against the
// reference. All values are small integers: sums are exact, and bits are compared.
#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "core/ops/embedding/position_embedding_cuda.h"
#include "core/ops/embedding/position_embedding_reference.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::Copy;
using testing::FillNormal;
using testing::FillSmallIntegers;
using testing::GuardAt;
using testing::GuardedBuffer;
using testing::SameBits;
using testing::ScopedRandomCudaOrder;
using testing::ToDouble;

struct Size {
  int64_t rows, positions, columns, period, offset;
};

template <typename T>
struct Problem {
  Problem(const Size& size, GuardAt guard_at)
      : size(size),
        positions("positions", size.positions * size.columns, guard_at),
        y("y", size.rows * size.columns, guard_at),
        dpositions("dpositions", positions.size(), guard_at) {
    FillSmallIntegers(positions, 1);
    FillSmallIntegers(y, 2);
    FillSmallIntegers(dpositions, 3);
  }

  absl::Status Forward() {
    return cuda::PositionEmbeddingForward<T>(nullptr, {.positions = positions.data(),
                                                       .period = size.period,
                                                       .offset = size.offset,
                                                       .rows = size.rows,
                                                       .columns = size.columns,
                                                       .y = y.data()});
  }

  absl::Status Backward() {
    return cuda::PositionEmbeddingBackward<T>(nullptr, {.dy = y.data(),
                                                        .period = size.period,
                                                        .offset = size.offset,
                                                        .rows = size.rows,
                                                        .columns = size.columns,
                                                        .dpositions = dpositions.data()});
  }

  Size size;
  GuardedBuffer<T> positions, y;
  GuardedBuffer<float> dpositions;
};

template <typename T>
class PositionEmbeddingCudaTest : public ::testing::Test {};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(PositionEmbeddingCudaTest, Types);

// More rows than loads in flight times the period; offsets beyond 32 bits; fewer rows than
// positions; columns of several blocks.
constexpr Size kSizes[] = {{1, 1, 1, 1, 0},
                           {0, 3, 8, 3, 0},
                           {35, 9, 24, 7, 3},
                           {20, 2, 33, 2, 1},
                           {40, 6, 8, 4, 4},
                           {3, 12, 1040, 12, 11},
                           {17, 8, 130, 5, (int64_t{1} << 40) + 3}};

TYPED_TEST(PositionEmbeddingCudaTest, FollowsTheReference) {
  for (const Size& size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      SCOPED_TRACE(::testing::Message() << size.rows << " x " << size.columns << ", period "
                                        << size.period << ", guard " << static_cast<int>(guard_at));
      Problem<TypeParam> p(size, guard_at);
      std::vector<double> dpositions = ToDouble(p.dpositions);
      const RowPositions at = {size.period, size.offset};
      reference::PositionEmbeddingBackward(ToDouble(p.y).data(), at, size.rows, size.columns, 0,
                                           size.columns, dpositions.data());
      ASSERT_EQ(p.Backward(), absl::OkStatus());
      EXPECT_EQ(ToDouble(p.dpositions), dpositions);

      std::vector<double> y = ToDouble(p.y);
      reference::PositionEmbeddingForward(ToDouble(p.positions).data(), at, 0, size.rows,
                                          size.columns, y.data());
      ASSERT_EQ(p.Forward(), absl::OkStatus());
      EXPECT_EQ(ToDouble(p.y), y);
    }
  }
}

// Positions in any order, of which several are equal; one outside at either end gives NaN.
TYPED_TEST(PositionEmbeddingCudaTest, FollowsGivenPositions) {
  for (const int64_t columns : {8, 33, 1040}) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      Problem<TypeParam> p({7, 5, columns, 5, 0}, guard_at);
      GuardedBuffer<int32_t> given("given", 7, guard_at);
      const int32_t values[] = {4, 0, 1, 0, 5, 2, -1};
      std::copy_n(values, 7, given.data());
      std::vector<double> y = ToDouble(p.y);
      for (const int64_t row : {0, 1, 2, 3, 5}) {
        reference::PositionEmbeddingForward<double>(
            ToDouble(p.positions).data(), {0, 0, given.data()}, row, row + 1, columns, y.data());
      }
      ASSERT_EQ(cuda::PositionEmbeddingForward<TypeParam>(nullptr, {.positions = p.positions.data(),
                                                                    .period = 0,
                                                                    .offset = 0,
                                                                    .rows = 7,
                                                                    .columns = columns,
                                                                    .y = p.y.data(),
                                                                    .given = given.data(),
                                                                    .num_positions = 5}),
                absl::OkStatus());
      const std::vector<double> got = ToDouble(p.y);
      for (int64_t i = 0; i < 7 * columns; ++i) {
        const bool outside = i / columns == 4 || i / columns == 6;
        ASSERT_TRUE(outside ? std::isnan(got[i]) : got[i] == y[i]) << i;
      }
    }
  }
}

TYPED_TEST(PositionEmbeddingCudaTest, AnyTensorMayBeUnaligned) {
  for (int unaligned = 0; unaligned < 3; ++unaligned) {
    SCOPED_TRACE(unaligned);
    Problem<TypeParam> p({5, 4, 16, 3, 0}, GuardAt::kStart);
    const auto at = [&](const auto& buffer, int i) { return buffer.data() + (i == unaligned); };
    ASSERT_EQ(cuda::PositionEmbeddingForward<TypeParam>(nullptr, {.positions = at(p.positions, 0),
                                                                  .period = 3,
                                                                  .offset = 1,
                                                                  .rows = 4,
                                                                  .columns = 16,
                                                                  .y = at(p.y, 1)}),
              absl::OkStatus());
    ASSERT_EQ(
        cuda::PositionEmbeddingBackward<TypeParam>(nullptr, {.dy = at(p.y, 1),
                                                             .period = 3,
                                                             .offset = 1,
                                                             .rows = 4,
                                                             .columns = 16,
                                                             .dpositions = at(p.dpositions, 2)}),
        absl::OkStatus());
  }
}

TYPED_TEST(PositionEmbeddingCudaTest, TheSameBitsInEveryOrderOfThreads) {
  Problem<TypeParam> p({50, 4, 72, 4, 1}, GuardAt::kStart);
  FillNormal(p.y, 2);
  std::vector<float> dpositions;
  for (uint64_t seed = 0; seed < 3; ++seed) {
    std::optional<ScopedRandomCudaOrder> order;
    if (seed > 0) order.emplace(seed);
    FillNormal(p.dpositions, 3);
    ASSERT_EQ(p.Backward(), absl::OkStatus());
    if (seed == 0) dpositions = Copy(p.dpositions);
    EXPECT_TRUE(SameBits(p.dpositions, dpositions)) << seed;
  }
}

}  // namespace
}  // namespace strake
