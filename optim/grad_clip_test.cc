#include "optim/grad_clip.h"

#include <cmath>
#include <functional>
#include <limits>

#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/comm/single_rank_communicator.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::FillNormal;
using testing::SameBits;
using testing::SetElement;
using testing::TestContext;
using testing::TestTensor;

// Stands for several ranks that all hold the same gradients.
class EqualRanks : public SingleRankCommunicator {
 public:
  explicit EqualRanks(int multiplicity) : multiplicity_(multiplicity) {}

 protected:
  std::function<absl::Status()> Start(CollectiveCall call) override {
    static_cast<double*>(call.output)[0] *= multiplicity_;
    return nullptr;
  }

 private:
  const int multiplicity_;
};

class LostRank : public SingleRankCommunicator {
 protected:
  std::function<absl::Status()> Start(CollectiveCall) override {
    return [] { return absl::UnavailableError("rank 1 is gone"); };
  }
};

GradClip Clip(const Tensor& grads, double clip_norm) {
  const TestContext ctx;
  SingleRankCommunicator one;
  return ClipGradNorm(ctx, grads, clip_norm, one).value();
}

TEST(GradClipTest, NormAndScaleInClosedForm) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    TestTensor grads(dtype, {100});
    FillConstant(grads, 0);
    SetElement(grads, 0, 3);
    SetElement(grads, 99, -4);
    EXPECT_EQ(Clip(grads, 1).norm, 5);
    EXPECT_EQ(Clip(grads, 1).scale, 1 / (5 + 1e-6));
    EXPECT_EQ(Clip(grads, 5).scale, 5 / (5 + 1e-6));
    EXPECT_EQ(Clip(grads, 6).scale, 1);
    EXPECT_EQ(Clip(grads, 0).scale, 1);
    EXPECT_EQ(Clip(grads, 0).norm, 5);
  }
}

TEST(GradClipTest, TheClippedGradientHasTheNorm) {
  TestTensor grads(DType::kF64, {1000});
  FillNormal(grads, 1);
  const GradClip clip = Clip(grads, 1);
  ASSERT_GT(clip.norm, 2);
  double sum = 0;
  for (int i = 0; i < 1000; ++i) {
    const double clipped = grads->data<double>()[i] * clip.scale;
    sum += clipped * clipped;
  }
  // norm / (norm + 1e-6) is below 1 by 1e-6 / norm.
  EXPECT_LT(std::sqrt(sum), 1);
  EXPECT_GT(std::sqrt(sum), 1 - 1.01e-6 / clip.norm);
}

TEST(GradClipTest, LeavesTheGradientsAlone) {
  TestTensor grads(DType::kF32, {64}), before(DType::kF32, {64});
  FillNormal(grads, 1);
  FillNormal(before, 1);
  EXPECT_LT(Clip(grads, 0.5).scale, 1);
  EXPECT_TRUE(SameBits(grads, before));
}

TEST(GradClipTest, NothingZeroAndNonFinite) {
  TestTensor none(DType::kF32, {0});
  EXPECT_EQ(Clip(none, 1).norm, 0);
  EXPECT_EQ(Clip(none, 1).scale, 1);
  TestTensor grads(DType::kF32, {2});
  FillConstant(grads, std::numeric_limits<double>::quiet_NaN());
  EXPECT_TRUE(std::isnan(Clip(grads, 1).norm));
  EXPECT_TRUE(std::isnan(Clip(grads, 1).scale));
  FillConstant(grads, std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isinf(Clip(grads, 1).norm));
  EXPECT_EQ(Clip(grads, 1).scale, 0);
}

TEST(GradClipTest, SumsOverRanksAndPassesTheirErrorsOn) {
  const TestContext ctx;
  TestTensor grads(DType::kF32, {4});
  FillConstant(grads, 1);
  EqualRanks four(4);
  const auto clip = ClipGradNorm(ctx, grads, 2, four);
  ASSERT_TRUE(clip.ok());
  EXPECT_EQ(clip->norm, 4);
  EXPECT_EQ(clip->scale, 2 / (4 + 1e-6));
  LostRank lost;
  EXPECT_EQ(ClipGradNorm(ctx, grads, 2, lost).status(), absl::UnavailableError("rank 1 is gone"));
}

TEST(GradClipDeathTest, WrongInputsAreNamed) {
  TestTensor grads(DType::kC128, {4});
  EXPECT_DEATH(Clip(grads, 1), "\\[grad_clip\\] grads c128\\[4\\]");
  TestTensor f32(DType::kF32, {4});
  EXPECT_DEATH(Clip(f32, -1), "\\[grad_clip\\] clip_norm");
}

}  // namespace
}  // namespace strake
