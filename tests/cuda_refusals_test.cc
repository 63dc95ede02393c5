// Training on a GPU whose cuBLASLt refuses epilogues that it is documented to have.
#include <set>
#include <string>
#include <vector>

#include "core/testing/cublaslt_contract/contract.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/activation_recompute.h"
#include "tests/layout_case.h"
#include "tests/train_layout.h"

namespace strake::testing {
namespace {

// Numbers of cublasLtEpilogue_t: bias, GELU with and without it, its gradient, both sums.
const std::set<int> kEpilogues = {4, 160, 164, 192, 256, 512};

// GPT-2 in bf16, whose products have all of the epilogues. The second micro-batch adds to
// gradients.
LayoutCase Layout() {
  return {.num_heads = 4,
          .num_kv_heads = 4,
          .initializer_range = 0.1,
          .micro_batch = 1,
          .num_micro_batches = 2,
          .dtype = DType::kBf16,
          .device = Device::kCuda};
}

RankRecord Train(const LayoutCase& layout, const std::set<int>& refused) {
  const ScopedCublasLtBehaviour refuse({.refused_epilogues = refused});
  const absl::StatusOr<std::vector<RankRecord>> ranks = TrainLayout(layout);
  EXPECT_TRUE(ranks.ok()) << ranks.status();
  EXPECT_THAT(TakeCublasLtViolations(), ::testing::IsEmpty());
  return ranks.ok() ? ranks->front() : RankRecord();
}

// A loss of about 4 is a mean of numbers that bf16 rounds by up to 2^-9 of them, and a few such
// errors add up. The norm's errors are those of gradients, which come from some ten rounded
// tensors.
TEST(CudaRefusalsTest, TrainingGoesOnWithoutEpilogues) {
  const RankRecord fused = Train(Layout(), {});
  for (const int refused : kEpilogues) {
    const RankRecord unfused = Train(Layout(), {refused});
    ASSERT_EQ(unfused.steps.size(), fused.steps.size());
    for (size_t step = 0; step < fused.steps.size(); ++step) {
      EXPECT_NEAR(unfused.steps[step].loss, fused.steps[step].loss, 0.02) << refused;
      EXPECT_NEAR(unfused.steps[step].norm / fused.steps[step].norm, 1, 0.05) << refused;
    }
  }
}

TEST(CudaRefusalsTest, RefusalsDecideBitsAndNothingElseDoes) {
  const RankRecord fused = Train(Layout(), {}), unfused = Train(Layout(), kEpilogues);
  EXPECT_FALSE(unfused == fused);
  EXPECT_TRUE(Train(Layout(), kEpilogues) == unfused);
  LayoutCase recomputed = Layout();
  for (const auto recompute : {ActivationRecompute::kSelective, ActivationRecompute::kFull}) {
    recomputed.activation_recompute = recompute;
    EXPECT_TRUE(Train(recomputed, kEpilogues) == unfused) << static_cast<int>(recompute);
  }
}

}  // namespace
}  // namespace strake::testing
