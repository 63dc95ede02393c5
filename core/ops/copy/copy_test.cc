#include "core/ops/copy/copy.h"

#include "core/testing/cuda_test_context.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::FillNormal;
using testing::GetElement;
using testing::MaxAbs;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;

TEST(CopyTest, MovesBytesOnTheGpu) {
  const CudaTestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF64}) {
    TestTensor x(dtype, {3, 5});
    FillNormal(x, 1);
    const CudaTestTensor from(x), to(dtype, {15});
    EXPECT_EQ(MaxAbs(to.ToHost()), 0);
    ASSERT_TRUE(Copy(ctx, from, to).ok());
    EXPECT_TRUE(SameBits(Tensor(to.ToHost()).Reshape({3, 5}), x));
    ASSERT_TRUE(SetZero(ctx, to).ok());
    EXPECT_EQ(MaxAbs(to.ToHost()), 0);
    EXPECT_TRUE(SameBits(from.ToHost(), x));
  }
}

// Moves rows of 3 out of rows of 5, packed and back, on either device.
TEST(CopyTest, MovesRowsAndNothingBetweenThem) {
  const CudaTestContext gpu;
  const TestContext cpu;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int64_t rows : {1, 4}) {
      const Shape all = {(rows - 1) * 5 + 3};
      TestTensor x(dtype, all), packed(dtype, {3 * rows}), y(dtype, all);
      FillNormal(x, 1);
      FillNormal(y, 2);
      const CudaTestTensor from(x), staging(dtype, {3 * rows}), to(y);
      ASSERT_TRUE(CopyRows(cpu, x, 5, rows, 3, packed, 3).ok());
      ASSERT_TRUE(CopyRows(cpu, packed, 3, rows, 3, y, 5).ok());
      for (int64_t i = 0; i < all[0]; ++i) {
        EXPECT_EQ(GetElement(x, i) == GetElement(y, i), i % 5 < 3) << i;
      }
      ASSERT_TRUE(CopyRows(gpu, from, 5, rows, 3, staging, 3).ok());
      ASSERT_TRUE(CopyRows(gpu, staging, 3, rows, 3, to, 5).ok());
      EXPECT_TRUE(SameBits(staging.ToHost(), packed));
      EXPECT_TRUE(SameBits(to.ToHost(), y));
    }
  }
}

TEST(CopyTest, NoRowsAreNoWork) {
  const TestContext ctx;
  TestTensor none(DType::kF32, {0});
  EXPECT_TRUE(CopyRows(ctx, none, 5, 0, 3, none, 3).ok());
}

TEST(CopyTest, HostCopiesAreWrittenBack) {
  const CudaTestContext ctx;
  const CudaTestTensor x(DType::kF32, {2});
  const HostCopy copy = x.ToHost();
  copy.tensor().data<float>()[1] = 7;
  EXPECT_EQ(x.ToHost().tensor().data<float>()[1], 0);
  ASSERT_TRUE(copy.WriteBack().ok());
  EXPECT_EQ(x.ToHost().tensor().data<float>()[1], 7);
}

TEST(CopyDeathTest, TensorsElsewhereAreNamed) {
  const CudaTestContext ctx;
  TestTensor x(DType::kF32, {2});
  EXPECT_DEATH((void)SetZero(ctx, x), "\\[set_zero\\] f32\\[2\\] is not where");
}

TEST(CopyDeathTest, RowsMustFit) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {8}), y(DType::kF32, {6});
  EXPECT_DEATH((void)CopyRows(ctx, x, 4, 2, 3, y, 3),
               "\\[copy_rows\\] 2 rows of 3 from f32\\[8\\] every 4 to f32\\[6\\] every 3");
  EXPECT_DEATH((void)CopyRows(ctx, x, 5, 2, 3, y, 2), "every 2");
}

}  // namespace
}  // namespace strake
