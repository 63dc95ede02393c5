#include "core/ops/fingerprint/fingerprint.h"

#include <cstring>

#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::FillNormal;
using testing::TestContext;
using testing::TestTensor;

struct Sums {
  Sums() { std::memset(values->raw(), 0, values->num_bytes()); }
  Fingerprint Total() const { return TotalFingerprint(values); }
  TestTensor values{DType::kI64, {kFingerprintSums, 2}};
};

Fingerprint Of(const Context& ctx, const Tensor& x, const FingerprintBlock& block) {
  const Sums sums;
  EXPECT_TRUE(AddFingerprint(ctx, x, block, sums.values).ok());
  return sums.Total();
}

constexpr int64_t kRows = 37, kColumns = 2200;

FingerprintBlock Whole() { return {{.key = 5}, kRows, kColumns, kColumns}; }

TEST(FingerprintOpTest, IsTheSumOfTheRows) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {kRows * kColumns});
  FillNormal(x, 1);
  Fingerprint sum;
  for (int64_t row = 0; row < kRows; ++row) {
    sum += FingerprintOfRow({.key = 5, .row = row}, x->data<float>() + row * kColumns, kColumns);
  }
  EXPECT_NE(sum, Fingerprint());
  EXPECT_EQ(Of(ctx, x, Whole()), sum);
}

// Blocks of rows and of columns, on other numbers of threads, in one set of sums.
TEST(FingerprintOpTest, BlocksAddUpToTheWhole) {
  const TestContext one(OpSet::kAuto, 1), three(OpSet::kAuto, 3);
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF64}) {
    TestTensor x(dtype, {kRows * kColumns});
    FillNormal(x, 1);
    const Sums sums;
    const auto add = [&](int64_t row, int64_t column, int64_t rows, int64_t columns) {
      const int64_t begin = row * kColumns + column;
      ASSERT_TRUE(AddFingerprint(three, x->Rows(begin, begin + (rows - 1) * kColumns + columns),
                                 {{5, row, column}, rows, columns, kColumns}, sums.values)
                      .ok());
    };
    add(1, 0, kRows - 1, 1001);
    add(0, 0, 1, kColumns);
    add(1, 1001, kRows - 1, kColumns - 1001);
    EXPECT_EQ(sums.Total(), Of(one, x, Whole())) << DTypeName(dtype);
  }
}

TEST(FingerprintOpTest, Bf16HasTheBitsOfTheSameNumbersInF32) {
  const TestContext ctx;
  TestTensor bf16(DType::kBf16, {kRows * kColumns}), f32(DType::kF32, {kRows * kColumns});
  FillNormal(bf16, 1);
  testing::CopyConvert(bf16, f32);
  EXPECT_EQ(Of(ctx, bf16, Whole()), Of(ctx, f32, Whole()));
}

TEST(FingerprintOpTest, BothHalvesOfF64Count) {
  const TestContext ctx;
  TestTensor x(DType::kF64, {10});
  FillConstant(x, 1);
  const FingerprintBlock block = {{.key = 5}, 1, 10, 10};
  const Fingerprint before = Of(ctx, x, block);
  for (const uint64_t bit : {uint64_t{1}, uint64_t{1} << 63}) {
    reinterpret_cast<uint64_t*>(x->raw())[3] ^= bit;
    EXPECT_NE(Of(ctx, x, block), before);
    reinterpret_cast<uint64_t*>(x->raw())[3] ^= bit;
  }
  EXPECT_EQ(Of(ctx, x, block), before);
}

TEST(FingerprintOpTest, NothingAddsNothing) {
  const TestContext ctx;
  const TestTensor x(DType::kF32, {0});
  EXPECT_EQ(Of(ctx, x, {.place = {.key = 5}}), Fingerprint());
}

TEST(FingerprintOpDeathTest, WrongArgumentsAreNamed) {
  const TestContext ctx;
  const TestTensor x(DType::kF32, {10}), i32(DType::kI32, {10}), few(DType::kI64, {4, 2});
  const Sums sums;
  EXPECT_DEATH(Of(ctx, x, {{}, 2, 4, 7}), "\\[fingerprint\\] 2 rows of 4 elements, 7 apart");
  EXPECT_DEATH((void)AddFingerprint(ctx, x, {{}, 1, 10, 10}, few), "sums i64\\[4, 2\\]");
  EXPECT_DEATH(Of(ctx, i32, {{}, 1, 10, 10}), "no implementation for i32");
}

}  // namespace
}  // namespace strake
