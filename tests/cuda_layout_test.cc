// Layouts on a GPU: ranks that share a GPU train the same model as one rank on the CPU in f64.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/testing/test_tensor.h"
#include "data/token_batch.h"
#include "gtest/gtest.h"
#include "models/activation_recompute.h"
#include "models/model_config.h"
#include "parallel/context/context_parallel.h"
#include "parallel/pipeline/schedule.h"
#include "tests/layout_case.h"
#include "tests/layout_equality.h"
#include "tests/train_layout.h"

namespace strake {
namespace {

using testing::LayoutCase;

// A number of the backward pass has passed through a chain of about 55 sums (see
// layout_equality_test.cc). f32 rounds each of a sum's at most n terms, by at most u. bf16 rounds a
// sum's result and its weights, by u / sqrt(3) in the root mean square. These errors are
// independent, and the largest of a tensor's thousands of them is about four times their root mean
// square. The weights of later steps differ by as much again per step.
double Tolerance(const LayoutCase& layout, int step) {
  const double num_terms = std::max<double>(48, layout.GlobalBatch() * layout.kSeqLen);
  const double num_roundings = layout.dtype == DType::kBf16
                                   ? 2 * 55 / 3.0
                                   : 55 * num_terms + 2 * static_cast<double>(layout.vocab_size);
  return 4 * step * std::sqrt(num_roundings) * testing::UnitRoundoff(layout.dtype);
}

// Attention scores far below 1 in bf16: a score's error is the relative error of its probability.
LayoutCase Gpt2(DType dtype) {
  return {.num_heads = 4,
          .num_kv_heads = 4,
          .initializer_range = dtype == DType::kBf16 ? 0.1 : 0.4,
          .micro_batch = 1,
          .dtype = dtype,
          .device = Device::kCuda};
}

LayoutCase Llama(DType dtype, int64_t num_kv_heads) {
  LayoutCase layout = Gpt2(dtype);
  layout.model = "llama";
  layout.tied = false;
  layout.num_kv_heads = num_kv_heads;
  return layout;
}

LayoutCase On(LayoutCase layout, int tp, int dp, bool sequence_parallel, int zero,
              int num_micro_batches = 1) {
  layout.tp = tp;
  layout.dp = dp;
  layout.sequence_parallel = sequence_parallel;
  layout.zero = zero;
  layout.num_micro_batches = num_micro_batches;
  return layout;
}

LayoutCase Of(LayoutCase layout, DocumentMode documents) {
  layout.documents = documents;
  return layout;
}

LayoutCase InStages(LayoutCase layout, PipelineKind schedule) {
  layout.pp = 2;
  layout.schedule = schedule;
  return layout;
}

LayoutCase Sharing(LayoutCase layout, int cp, ContextComm comm) {
  layout.cp = cp;
  layout.cp_comm = comm;
  return layout;
}

std::vector<LayoutCase> Layouts() {
  constexpr DType kF32 = DType::kF32, kBf16 = DType::kBf16;
  return {
      On(Gpt2(kBf16), 1, 1, false, 0, 2),
      On(Gpt2(kF32), 2, 1, false, 0),
      On(Llama(kBf16, 4), 1, 2, false, 1),
      On(Gpt2(kF32), 1, 2, false, 2, 2),
      On(Gpt2(kBf16), 2, 2, true, 1),
      // Two ranks, and four, hold a key/value head.
      On(Llama(kF32, 2), 4, 1, true, 0),
      On(Llama(kBf16, 1), 4, 1, false, 0),
      On(Llama(kF32, 1), 2, 2, true, 2),
      // Documents, which differ from step to step.
      Of(On(Gpt2(kF32), 2, 1, true, 0, 2), DocumentMode::kMask),
      Of(On(Llama(kBf16, 2), 1, 2, false, 2), DocumentMode::kMask),
      Of(On(Llama(kF32, 1), 2, 1, false, 0, 2), DocumentMode::kPad),
      // A tied table is on both stages.
      InStages(On(Gpt2(kF32), 1, 2, false, 1, 3), PipelineKind::k1f1b),
      InStages(On(Gpt2(kBf16), 1, 2, false, 1, 3), PipelineKind::kZeroBubble),
      Sharing(On(Llama(kF32, 2), 2, 1, true, 1, 2), 2, ContextComm::kRing),
      Of(Sharing(On(Llama(kBf16, 1), 1, 1, false, 0), 3, ContextComm::kRing), DocumentMode::kMask),
      Sharing(On(Gpt2(kBf16), 1, 2, false, 2), 2, ContextComm::kAllGather),
  };
}

class CudaLayoutTest : public ::testing::TestWithParam<LayoutCase> {};

TEST_P(CudaLayoutTest, TrainsTheModelOfOneRank) {
  const LayoutCase& layout = GetParam();
  LayoutCase one_rank = layout.OnOneRank();
  one_rank.dtype = DType::kF64;
  testing::ExpectTrainsTheModelOfOneRank(layout, one_rank,
                                         [&](int step) { return Tolerance(layout, step); });
}

INSTANTIATE_TEST_SUITE_P(Layouts, CudaLayoutTest, ::testing::ValuesIn(Layouts()),
                         [](const auto& info) { return info.param.ToString(); });

TEST(CudaLayoutBitsTest, TheSameLayoutGivesTheSameBits) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const LayoutCase layout = On(Llama(dtype, 1), 2, 2, true, 2);
    const auto first = testing::TrainLayout(layout), second = testing::TrainLayout(layout);
    ASSERT_TRUE(first.ok()) << first.status();
    ASSERT_TRUE(second.ok()) << second.status();
    EXPECT_TRUE(*first == *second) << DTypeName(dtype);
  }
}

// Check mode gathers weights in the update, and otherwise the next forward pass does, bucket by
// bucket as it needs them.
TEST(CudaLayoutBitsTest, WeightsThatArriveDuringThePassMoveNoBit) {
  for (LayoutCase layout :
       {On(Gpt2(DType::kBf16), 1, 2, false, 1, 2), On(Llama(DType::kF32, 1), 2, 2, true, 2)}) {
    layout.bucket_bytes = 4000;
    const auto waited = testing::TrainLayout(layout);
    const auto overlapped = testing::TrainLayout(layout, {.check = false});
    ASSERT_TRUE(waited.ok()) << waited.status();
    ASSERT_TRUE(overlapped.ok()) << overlapped.status();
    EXPECT_TRUE(*waited == *overlapped) << layout.ToString();
  }
}

// Also in bf16, where GPT-2's GELU is fused into its product and different tensors are kept.
TEST(CudaLayoutBitsTest, RecomputationMovesNoBit) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (LayoutCase layout : {On(Gpt2(dtype), 1, 1, false, 0, 2), On(Gpt2(dtype), 2, 1, true, 0),
                              On(Llama(dtype, 2), 4, 1, true, 0)}) {
      const auto expected = testing::TrainLayout(layout);
      ASSERT_TRUE(expected.ok()) << expected.status();
      for (const auto recompute : {ActivationRecompute::kSelective, ActivationRecompute::kFull}) {
        layout.activation_recompute = recompute;
        const auto actual = testing::TrainLayout(layout);
        ASSERT_TRUE(actual.ok()) << actual.status();
        EXPECT_TRUE(*actual == *expected)
            << layout.ToString() << ", recomputation " << static_cast<int>(recompute);
      }
    }
  }
}

}  // namespace
}  // namespace strake
