// The CUDA kernel of reductions over ranks, under the emulator and on a GPU, against sums in rank
// order, which it must equal in every bit.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <limits>
#include <type_traits>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/reduce_ranks/reduce_ranks_cuda.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::GuardAt;
using testing::GuardedBuffer;
using testing::SameBits;

template <typename T>
class ReduceRanksCudaTest : public ::testing::Test {};

using Types = ::testing::Types<float, Bf16, double, int32_t, int64_t, uint16_t>;
TYPED_TEST_SUITE(ReduceRanksCudaTest, Types);

constexpr int kRanks[] = {1, 2, 3, 4, 8, cuda::kMaxReducedRanks};
// Around a vector of 2, 4 or 8, and more than a block of vectors, with a tail.
constexpr int64_t kCounts[] = {0, 1, 7, 8, 520, 2065};

// A value whose sums depend on their order; for integers, one whose sums wrap.
template <typename T>
T ValueOf(int rank, int64_t i) {
  const Philox philox(1, RandomUse::kTesting, rank);
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(philox.Bits(i));
  } else {
    return T(static_cast<float>(philox.Normal(i)));
  }
}

template <typename T>
T RankOrderSum(const std::vector<T>& values) {
  if constexpr (std::is_integral_v<T>) {
    uint64_t sum = 0;
    for (const T value : values) sum += static_cast<uint64_t>(value);
    return static_cast<T>(sum);
  } else {
    using Accumulator = std::conditional_t<std::is_same_v<T, double>, double, float>;
    Accumulator sum = static_cast<Accumulator>(values[0]);
    for (size_t r = 1; r < values.size(); ++r) sum += static_cast<Accumulator>(values[r]);
    return T(sum);
  }
}

template <typename T>
T Largest(const std::vector<T>& values) {
  using Comparable = std::conditional_t<std::is_same_v<T, Bf16>, float, T>;
  return *std::max_element(values.begin(), values.end(), [](T a, T b) {
    return static_cast<Comparable>(a) < static_cast<Comparable>(b);
  });
}

template <typename T>
struct Problem {
  Problem(int ranks, int64_t count, GuardAt guard_at) {
    for (int r = 0; r < ranks; ++r) {
      x.emplace_back("x", count, guard_at);
      for (int64_t i = 0; i < count; ++i) x[r][i] = ValueOf<T>(r, i);
      inputs.push_back(x[r].data());
      in_place.push_back(x[r].data());
    }
  }

  template <typename F>
  std::vector<T> Expected(F reduce) const {
    std::vector<T> expected;
    for (size_t i = 0; i < x[0].size(); ++i) {
      std::vector<T> values;
      for (const auto& rank : x) values.push_back(rank[i]);
      expected.push_back(reduce(values));
    }
    return expected;
  }

  std::deque<GuardedBuffer<T>> x;  // by rank
  std::vector<const void*> inputs;
  std::vector<void*> in_place;
};

TYPED_TEST(ReduceRanksCudaTest, SumsInRankOrder) {
  using T = TypeParam;
  for (const int ranks : kRanks) {
    for (const int64_t count : kCounts) {
      SCOPED_TRACE(::testing::Message() << ranks << " ranks, " << count << " elements");
      Problem<T> p(ranks, count, count % 2 == 0 ? GuardAt::kStart : GuardAt::kEnd);
      const std::vector<T> expected = p.Expected(RankOrderSum<T>);
      GuardedBuffer<T> y("y", count);
      void* const output = y.data();
      ASSERT_EQ(cuda::ReduceRanks(nullptr, {.reduction = cuda::RankReduction::kSum,
                                            .dtype = DTypeOf<T>::value,
                                            .inputs = p.inputs,
                                            .count = count,
                                            .outputs = absl::MakeSpan(&output, 1)}),
                absl::OkStatus());
      EXPECT_TRUE(SameBits(y, expected));
      ASSERT_EQ(cuda::ReduceRanks(nullptr, {.reduction = cuda::RankReduction::kSum,
                                            .dtype = DTypeOf<T>::value,
                                            .inputs = p.inputs,
                                            .count = count,
                                            .outputs = p.in_place}),
                absl::OkStatus());
      for (const auto& x : p.x) EXPECT_TRUE(SameBits(x, expected));
    }
  }
}

TYPED_TEST(ReduceRanksCudaTest, MaxInPlace) {
  using T = TypeParam;
  const testing::ScopedRandomCudaOrder order(1);
  for (const int ranks : {1, 2, 8}) {
    Problem<T> p(ranks, 2065, GuardAt::kStart);
    const std::vector<T> expected = p.Expected(Largest<T>);
    ASSERT_EQ(cuda::ReduceRanks(nullptr, {.reduction = cuda::RankReduction::kMax,
                                          .dtype = DTypeOf<T>::value,
                                          .inputs = p.inputs,
                                          .count = 2065,
                                          .outputs = p.in_place}),
              absl::OkStatus());
    for (const auto& x : p.x) EXPECT_TRUE(SameBits(x, expected));
  }
}

TYPED_TEST(ReduceRanksCudaTest, AnyRankMayBeUnaligned) {
  using T = TypeParam;
  for (int unaligned = 0; unaligned < 3; ++unaligned) {
    Problem<T> p(3, 70, GuardAt::kStart);
    p.inputs[unaligned] = p.in_place[unaligned] = p.x[unaligned].data() + 1;
    std::vector<T> expected;
    for (int64_t i = 0; i < 69; ++i) {
      std::vector<T> values;
      for (int r = 0; r < 3; ++r) values.push_back(p.x[r][i + (r == unaligned)]);
      expected.push_back(RankOrderSum(values));
    }
    ASSERT_EQ(cuda::ReduceRanks(nullptr, {.reduction = cuda::RankReduction::kSum,
                                          .dtype = DTypeOf<T>::value,
                                          .inputs = p.inputs,
                                          .count = 69,
                                          .outputs = p.in_place}),
              absl::OkStatus());
    for (int r = 0; r < 3; ++r) {
      const T* const begin = p.x[r].data() + (r == unaligned);
      for (int64_t i = 0; i < 69; ++i) {
        EXPECT_EQ(std::memcmp(begin + i, &expected[i], sizeof(T)), 0) << r << " " << i;
      }
    }
  }
}

TEST(ReduceRanksCudaComplexTest, SumsBothParts) {
  Problem<double> p(3, 10, GuardAt::kEnd);  // five complex numbers
  const std::vector<double> expected = p.Expected(RankOrderSum<double>);
  ASSERT_EQ(cuda::ReduceRanks(nullptr, {.reduction = cuda::RankReduction::kSum,
                                        .dtype = DType::kC128,
                                        .inputs = p.inputs,
                                        .count = 5,
                                        .outputs = p.in_place}),
            absl::OkStatus());
  for (const auto& x : p.x) EXPECT_TRUE(SameBits(x, expected));
}

template <typename T>
void ExpectThatANanWins(T nan) {
  for (int with_nan = 0; with_nan < 3; ++with_nan) {
    Problem<T> p(3, 5, GuardAt::kEnd);
    p.x[with_nan][4] = nan;
    ASSERT_EQ(cuda::ReduceRanks(nullptr, {.reduction = cuda::RankReduction::kMax,
                                          .dtype = DTypeOf<T>::value,
                                          .inputs = p.inputs,
                                          .count = 5,
                                          .outputs = p.in_place}),
              absl::OkStatus());
    EXPECT_TRUE(std::isnan(static_cast<double>(static_cast<float>(p.x[0][4])))) << with_nan;
    EXPECT_FALSE(std::isnan(static_cast<double>(static_cast<float>(p.x[0][3]))));
  }
}

TEST(ReduceRanksCudaNanTest, WinsInMax) {
  ExpectThatANanWins(std::numeric_limits<float>::quiet_NaN());
  ExpectThatANanWins(Bf16(std::numeric_limits<float>::quiet_NaN()));
  ExpectThatANanWins(std::numeric_limits<double>::quiet_NaN());
}

TEST(ReduceRanksCudaErrorTest, WhatCannotBeReduced) {
  const std::vector<const void*> inputs(cuda::kMaxReducedRanks + 1);
  EXPECT_EQ(cuda::ReduceRanks(nullptr, {.reduction = cuda::RankReduction::kSum,
                                        .dtype = DType::kF32,
                                        .inputs = inputs,
                                        .count = 0,
                                        .outputs = {}})
                .message(),
            "[reduce_ranks] 65 inputs and 0 outputs: at most 64 ranks can share a GPU");
  EXPECT_EQ(cuda::ReduceRanks(nullptr, {.reduction = cuda::RankReduction::kMax,
                                        .dtype = DType::kC128,
                                        .inputs = absl::MakeSpan(inputs).subspan(0, 1),
                                        .count = 1,
                                        .outputs = {}})
                .message(),
            "[max_ranks] c128 has no order");
}

}  // namespace
}  // namespace strake
