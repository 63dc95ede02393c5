#include "parallel/comm/reduce_in_rank_order.h"

#include <cmath>
#include <limits>
#include <vector>

#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::FillNormal;
using testing::FillSmallIntegers;
using testing::GetElement;
using testing::SameBits;
using testing::SetElement;
using testing::TestTensor;

constexpr DType kAll[] = {DType::kF32, DType::kBf16, DType::kF64, DType::kC128,
                          DType::kI32, DType::kI64,  DType::kU16};

TEST(SumInRankOrderTest, SmallIntegersAreExactInEveryDType) {
  for (const DType dtype : kAll) {
    for (const int64_t n : {0, 1, 1023, 1024, 1025, 3000}) {
      TestTensor a(dtype, {n}), b(dtype, {n}), c(dtype, {n}), y(dtype, {n}), z(dtype, {n});
      for (int64_t i = 0; i < n; ++i) {
        SetElement(a, i, {double(i % 7), double(i % 5)});
        SetElement(b, i, {double(i % 11), 1});
        SetElement(c, i, {3, double(i % 3)});
      }
      SumInRankOrder(dtype, {a->raw(), b->raw(), c->raw()}, n, {y->raw(), z->raw()});
      for (int64_t i = 0; i < n; ++i) {
        const double im = dtype == DType::kC128 ? i % 5 + 1 + i % 3 : 0;
        ASSERT_EQ(GetElement(y, i), std::complex<double>(i % 7 + i % 11 + 3, im))
            << DTypeName(dtype) << " " << i;
      }
      EXPECT_TRUE(SameBits(y, z));
    }
  }
}

TEST(SumInRankOrderTest, FromRankZeroUpwards) {
  // In f32, (2^24 + 1) + 1 loses both ones and (1 + 1) + 2^24 keeps them.
  float big = 16777216, one = 1, y = 0;
  SumInRankOrder(DType::kF32, {&big, &one, &one}, 1, {&y});
  EXPECT_EQ(y, 16777216);
  SumInRankOrder(DType::kF32, {&one, &one, &big}, 1, {&y});
  EXPECT_EQ(y, 16777218);
}

TEST(SumInRankOrderTest, Bf16IsRoundedOnce) {
  // Spacing is 2 above 256: each 1 alone would be lost to the rounding.
  const Bf16 big(256), one(1);
  Bf16 y(0);
  SumInRankOrder(DType::kBf16, {&big, &one, &one}, 1, {&y});
  EXPECT_EQ(static_cast<float>(y), 258);
}

TEST(SumInRankOrderTest, IntegersWrap) {
  const int32_t max = std::numeric_limits<int32_t>::max(), one = 1;
  int32_t y = 0;
  SumInRankOrder(DType::kI32, {&max, &one}, 1, {&y});
  EXPECT_EQ(y, std::numeric_limits<int32_t>::min());
  const uint16_t big = 65535, two = 2;
  uint16_t z = 0;
  SumInRankOrder(DType::kU16, {&big, &two}, 1, {&z});
  EXPECT_EQ(z, 1);
}

TEST(SumInRankOrderTest, AnOutputMayBeAnInput) {
  TestTensor a(DType::kF32, {2000}), b(DType::kF32, {2000}), apart(DType::kF32, {2000});
  FillNormal(a, 1);
  FillNormal(b, 2);
  SumInRankOrder(DType::kF32, {a->raw(), b->raw()}, 2000, {apart->raw()});
  SumInRankOrder(DType::kF32, {a->raw(), b->raw()}, 2000, {a->raw(), b->raw()});
  EXPECT_TRUE(SameBits(a, apart));
  EXPECT_TRUE(SameBits(b, apart));
}

TEST(MaxInRankOrderTest, LargestOfEveryDType) {
  for (const DType dtype : kAll) {
    if (dtype == DType::kC128) continue;
    TestTensor a(dtype, {100}), b(dtype, {100}), y(dtype, {100});
    const double base = dtype == DType::kU16 ? 50 : 0;
    for (int64_t i = 0; i < 100; ++i) {
      SetElement(a, i, base + i % 7 - 3);
      SetElement(b, i, base + i % 5 - 3);
    }
    MaxInRankOrder(dtype, {a->raw(), b->raw()}, 100, {y->raw()});
    for (int64_t i = 0; i < 100; ++i) {
      ASSERT_EQ(GetElement(y, i).real(), base + std::max(i % 7, i % 5) - 3) << DTypeName(dtype);
    }
  }
}

TEST(MaxInRankOrderTest, NanWinsFromEitherSide) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), one = 1;
  const float minus_infinity = -std::numeric_limits<float>::infinity();
  float y = 0;
  MaxInRankOrder(DType::kF32, {&one, &nan, &one}, 1, {&y});
  EXPECT_TRUE(std::isnan(y));
  MaxInRankOrder(DType::kF32, {&nan, &one}, 1, {&y});
  EXPECT_TRUE(std::isnan(y));
  MaxInRankOrder(DType::kF32, {&minus_infinity, &minus_infinity}, 1, {&y});
  EXPECT_EQ(y, minus_infinity);
}

TEST(MaxInRankOrderDeathTest, ComplexNumbersHaveNoOrder) {
  std::complex<double> x;
  EXPECT_DEATH(MaxInRankOrder(DType::kC128, {&x}, 1, {&x}), "c128 has no order");
}

}  // namespace
}  // namespace strake
