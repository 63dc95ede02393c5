#include "core/ops/copy.h"

#include "core/testing/cuda_test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::FillNormal;
using testing::MaxAbs;
using testing::SameBits;
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

}  // namespace
}  // namespace strake
