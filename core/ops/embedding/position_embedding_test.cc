#include "core/ops/embedding/position_embedding.h"

#include <cmath>
#include <string>
#include <utility>

#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using testing::FillConstant;
using testing::FillNormal;
using testing::FillSmallIntegers;
using testing::GetElement;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

constexpr int64_t kPositions = 9, kColumns = 33;

struct Tables {
  Tables(DType dtype, int64_t rows)
      : positions(dtype, {kPositions, kColumns}),
        y(dtype, {rows, kColumns}),
        dpositions(dtype, {kPositions, kColumns}) {
    FillSmallIntegers(positions, 1);
    FillSmallIntegers(y, 2);
    FillConstant(dpositions, 0);
  }
  TestTensor positions, y, dpositions;
};

TEST(PositionEmbeddingTest, AddsTheRowOfEachPosition) {
  const TestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kC128}) {
    for (const int64_t rows : {0, 1, 4, 40}) {
      for (const int64_t period : {int64_t{1}, int64_t{4}, kPositions}) {
        for (const int64_t offset : {0, 3, 8, 21}) {
          Tables t(dtype, rows), before(dtype, rows);
          ASSERT_TRUE(PositionEmbeddingForward(ctx, t.positions, period, offset, t.y).ok());
          for (int64_t i = 0; i < t.y->num_elements(); ++i) {
            const int64_t position = (offset + i / kColumns) % period;
            ASSERT_EQ(GetElement(t.y, i),
                      GetElement(before.y, i) +
                          GetElement(t.positions, position * kColumns + i % kColumns))
                << rows << " rows, period " << period << ", offset " << offset;
          }
        }
      }
    }
  }
}

TEST(PositionEmbeddingTest, BackwardAddsRowsExactly) {
  const TestContext ctx;
  for (const int64_t offset : {0, 6}) {
    Tables t(DType::kF32, 40);
    TestTensor dpositions(DType::kF32, {kPositions, kColumns});
    FillConstant(t.dpositions, 5);
    FillConstant(dpositions, 5);
    for (int64_t i = 0; i < t.y->num_elements(); ++i) {
      const int64_t position = (offset + i / kColumns) % 4;
      dpositions->data<float>()[position * kColumns + i % kColumns] += t.y->data<float>()[i];
    }
    ASSERT_TRUE(PositionEmbeddingBackward(ctx, t.y, 4, offset, t.dpositions).ok());
    EXPECT_TRUE(SameBits(t.dpositions, dpositions)) << offset;
  }
}

// Two documents of 3 and 4 tokens, the second from position 0 on, are two sequences.
TEST(PositionEmbeddingTest, GivenPositionsAddAsSequencesDo) {
  TestTensor given(DType::kI32, {7});
  for (int64_t n = 0; n < 7; ++n) given->data<int32_t>()[n] = n < 3 ? n : n - 3;
  for (const OpSet ops : {OpSet::kAuto, OpSet::kReference}) {
    const TestContext ctx(ops);
    Tables packed(DType::kF32, 7), apart(DType::kF32, 7);
    ASSERT_TRUE(PositionEmbeddingForward(ctx, packed.positions, 7, 0, packed.y, given).ok());
    ASSERT_TRUE(PositionEmbeddingBackward(ctx, packed.y, 7, 0, packed.dpositions, given).ok());
    for (const auto& [begin, end] : {std::pair{0, 3}, {3, 7}}) {
      const Tensor y = apart.y->Rows(begin, end);
      ASSERT_TRUE(PositionEmbeddingForward(ctx, apart.positions, kPositions, 0, y).ok());
      ASSERT_TRUE(PositionEmbeddingBackward(ctx, y, kPositions, 0, apart.dpositions).ok());
    }
    EXPECT_TRUE(SameBits(packed.y, apart.y));
    EXPECT_TRUE(SameBits(packed.dpositions, apart.dpositions));
    EXPECT_GT(MaxAbs(packed.dpositions), 0.1);
  }
}

TEST(PositionEmbeddingTest, AWrongGivenPositionIsNamedAndNothingIsWritten) {
  const TestContext ctx;
  Tables t(DType::kF32, 3), before(DType::kF32, 3);
  TestTensor given(DType::kI32, {3});
  for (const int64_t wrong : {int64_t{-1}, kPositions}) {
    for (int64_t n = 0; n < 3; ++n) given->data<int32_t>()[n] = n == 1 ? wrong : kPositions - 1;
    const absl::Status status = PositionEmbeddingForward(ctx, t.positions, 3, 0, t.y, given);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(), "[position_embedding] positions[1] is " + std::to_string(wrong) +
                                    ", outside of [0, 9)");
    EXPECT_EQ(PositionEmbeddingBackward(ctx, t.y, 3, 0, t.dpositions, given), status);
    EXPECT_TRUE(SameBits(t.y, before.y));
    EXPECT_TRUE(SameBits(t.dpositions, before.dpositions));
  }
}

TEST(PositionEmbeddingTest, RowsInPartsGiveTheSameBits) {
  const TestContext ctx;
  Tables whole(DType::kF32, 40), parts(DType::kF32, 40);
  ASSERT_TRUE(PositionEmbeddingForward(ctx, whole.positions, 4, 0, whole.y).ok());
  ASSERT_TRUE(PositionEmbeddingBackward(ctx, whole.y, 4, 0, whole.dpositions).ok());
  for (const auto& [begin, end] : {std::pair{0, 7}, {7, 7}, {7, 21}, {21, 40}}) {
    const Tensor y = parts.y->Rows(begin, end);
    ASSERT_TRUE(PositionEmbeddingForward(ctx, parts.positions, 4, begin, y).ok());
    ASSERT_TRUE(PositionEmbeddingBackward(ctx, y, 4, begin, parts.dpositions).ok());
  }
  EXPECT_TRUE(SameBits(parts.y, whole.y));
  EXPECT_TRUE(SameBits(parts.dpositions, whole.dpositions));
}

TEST(PositionEmbeddingTest, GradientByComplexStep) {
  const TestContext ctx;
  Tables t(DType::kC128, 8);
  TestTensor dy(DType::kC128, {8, kColumns}), truth(DType::kF64, {kPositions, kColumns});
  FillNormal(dy, 4);
  ASSERT_TRUE(PositionEmbeddingBackward(ctx, dy, 5, 2, t.dpositions).ok());
  const auto loss = [&] {
    FillConstant(t.y, 1);
    EXPECT_TRUE(PositionEmbeddingForward(ctx, t.positions, 5, 2, t.y).ok());
    return WeightedSum(t.y, dy);
  };
  ComplexStepGradient(t.positions, loss, truth);
  EXPECT_GT(MaxAbs(truth), 0.1);
  EXPECT_LT(RelativeError(t.dpositions, truth), 1e-14);
}

TEST(PositionEmbeddingTest, TheSameBitsWithAnyNumberOfThreads) {
  Tables one(DType::kF32, 400), three(DType::kF32, 400);
  for (const auto& [t, threads] : {std::pair{&one, 1}, {&three, 3}}) {
    const TestContext ctx(OpSet::kAuto, threads);
    FillNormal(t->y, 4);
    ASSERT_TRUE(PositionEmbeddingForward(ctx, t->positions, 7, 3, t->y).ok());
    ASSERT_TRUE(PositionEmbeddingBackward(ctx, t->y, 7, 3, t->dpositions).ok());
  }
  EXPECT_GT(MaxAbs(one.dpositions), 0.1);
  EXPECT_TRUE(SameBits(one.y, three.y));
  EXPECT_TRUE(SameBits(one.dpositions, three.dpositions));
}

TEST(PositionEmbeddingTest, NonFiniteInputsShow) {
  const TestContext ctx;
  Tables t(DType::kF32, 4);
  t.positions->data<float>()[3 * kColumns + 2] = std::nanf("");
  ASSERT_TRUE(PositionEmbeddingForward(ctx, t.positions, 4, 2, t.y).ok());
  EXPECT_TRUE(std::isnan(t.y->data<float>()[kColumns + 2]));
  ASSERT_TRUE(PositionEmbeddingBackward(ctx, t.y, 4, 2, t.dpositions).ok());
  EXPECT_TRUE(std::isnan(t.dpositions->data<float>()[3 * kColumns + 2]));
}

TEST(PositionEmbeddingDeathTest, WrongShapesAndPeriodsAreNamed) {
  const TestContext ctx;
  Tables t(DType::kF32, 8);
  TestTensor narrow(DType::kF32, {8, kColumns - 1});
  EXPECT_DEATH((void)PositionEmbeddingForward(ctx, t.positions, 4, 0, narrow),
               "\\[position_embedding\\] positions f32\\[9, 33\\], y f32\\[8, 32\\]");
  EXPECT_DEATH((void)PositionEmbeddingForward(ctx, t.positions, 10, 0, t.y),
               "positions f32\\[9, 33\\], .*period 10, offset 0");
  EXPECT_DEATH((void)PositionEmbeddingBackward(ctx, t.y, 0, 0, t.dpositions), "period 0");
  EXPECT_DEATH((void)PositionEmbeddingBackward(ctx, t.y, 4, -1, t.dpositions), "offset -1");
  TestTensor given(DType::kI32, {7});
  EXPECT_DEATH((void)PositionEmbeddingForward(ctx, t.positions, 4, 0, t.y, given),
               "y f32\\[8, 33\\], row_positions i32\\[7\\]");
}

}  // namespace
}  // namespace strake
