#include "parallel/comm/single_rank_communicator.h"

#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::FillNormal;
using testing::SameBits;
using testing::TestTensor;

TEST(SingleRankCommunicatorTest, IsRankZeroOfOne) {
  SingleRankCommunicator comm;
  EXPECT_EQ(comm.rank(), 0);
  EXPECT_EQ(comm.size(), 1);
  EXPECT_TRUE(comm.Barrier().ok());
}

TEST(SingleRankCommunicatorTest, AllReduceLeavesEveryBitInPlace) {
  SingleRankCommunicator comm;
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF64, DType::kC128}) {
    for (const int64_t n : {0, 1, 17}) {
      TestTensor x(dtype, {n}), before(dtype, {n});
      FillNormal(x, 1);
      FillNormal(before, 1);
      const auto sum = comm.AllReduceSum(x).Wait();
      ASSERT_TRUE(sum.ok());
      EXPECT_EQ(sum->raw(), x->raw());
      EXPECT_TRUE(SameBits(*sum, before));
    }
  }
}

TEST(SingleRankCommunicatorDeathTest, UndefinedTensor) {
  SingleRankCommunicator comm;
  EXPECT_DEATH((void)comm.AllReduceSum(Tensor()), "\\[all_reduce_sum\\] an undefined tensor");
}

}  // namespace
}  // namespace strake
