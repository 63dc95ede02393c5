#include "core/ops/embedding.h"

#include <cmath>
#include <string>

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
using testing::FillTokens;
using testing::GetElement;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

constexpr int64_t kVocabSize = 11, kPositions = 9, kColumns = 33, kSeqLen = 4;

struct Tables {
  Tables(DType dtype, int64_t num_tokens)
      : tokens(DType::kI32, {num_tokens}),
        table(dtype, {kVocabSize, kColumns}),
        positions(dtype, {kPositions, kColumns}),
        y(dtype, {num_tokens, kColumns}),
        dtable(dtype, {kVocabSize, kColumns}),
        dpositions(dtype, {kPositions, kColumns}) {
    FillTokens(tokens, 1, kVocabSize);
    FillSmallIntegers(table, 2);
    FillSmallIntegers(positions, 3);
    FillConstant(dtable, 0);
    FillConstant(dpositions, 0);
  }
  TestTensor tokens, table, positions, y, dtable, dpositions;
};

TEST(EmbeddingTest, RowsOfTokensAndPositions) {
  const TestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kC128}) {
    for (const int64_t num_tokens : {0, 4, 40}) {
      Tables t(dtype, num_tokens);
      for (const int64_t offset : {0, 5}) {
        ASSERT_TRUE(
            EmbeddingForward(ctx, t.tokens, t.table, t.positions, kSeqLen, offset, t.y).ok());
        for (int64_t i = 0; i < t.y->num_elements(); ++i) {
          const int64_t n = i / kColumns, c = i % kColumns;
          ASSERT_EQ(GetElement(t.y, i),
                    GetElement(t.table, t.tokens->data<int32_t>()[n] * kColumns + c) +
                        GetElement(t.positions, (offset + n % kSeqLen) * kColumns + c));
        }
      }
      ASSERT_TRUE(EmbeddingForward(ctx, t.tokens, t.table, Tensor(), kSeqLen, 0, t.y).ok());
      for (int64_t i = 0; i < t.y->num_elements(); ++i) {
        const int64_t row = t.tokens->data<int32_t>()[i / kColumns];
        ASSERT_EQ(GetElement(t.y, i), GetElement(t.table, row * kColumns + i % kColumns));
      }
    }
  }
}

TEST(EmbeddingTest, BackwardAddsRowsExactly) {
  const TestContext ctx;
  Tables t(DType::kF32, 40);
  TestTensor dtable(DType::kF32, {kVocabSize, kColumns}),
      dpositions(DType::kF32, {kPositions, kColumns});
  FillSmallIntegers(t.y, 4);
  FillConstant(t.dtable, 3);
  FillConstant(dtable, 3);
  FillConstant(t.dpositions, 5);
  FillConstant(dpositions, 5);
  for (int64_t n = 0; n < 40; ++n) {
    for (int64_t c = 0; c < kColumns; ++c) {
      const float dy = t.y->data<float>()[n * kColumns + c];
      dtable->data<float>()[t.tokens->data<int32_t>()[n] * kColumns + c] += dy;
      dpositions->data<float>()[n % kSeqLen * kColumns + c] += dy;
    }
  }
  ASSERT_TRUE(EmbeddingBackward(ctx, t.y, t.tokens, kSeqLen, t.dtable, t.dpositions).ok());
  EXPECT_TRUE(SameBits(t.dtable, dtable));
  EXPECT_TRUE(SameBits(t.dpositions, dpositions));
  FillConstant(t.dtable, 3);
  ASSERT_TRUE(EmbeddingBackward(ctx, t.y, t.tokens, kSeqLen, t.dtable, Tensor()).ok());
  EXPECT_TRUE(SameBits(t.dtable, dtable));
}

TEST(EmbeddingTest, GradientsByComplexStep) {
  const TestContext ctx;
  Tables t(DType::kC128, 8);
  TestTensor dy(DType::kC128, {8, kColumns}), dtable(DType::kF64, {kVocabSize, kColumns}),
      dpositions(DType::kF64, {kPositions, kColumns});
  FillNormal(dy, 4);
  ASSERT_TRUE(EmbeddingBackward(ctx, dy, t.tokens, kSeqLen, t.dtable, t.dpositions).ok());
  const auto loss = [&] {
    EXPECT_TRUE(EmbeddingForward(ctx, t.tokens, t.table, t.positions, kSeqLen, 0, t.y).ok());
    return WeightedSum(t.y, dy);
  };
  ComplexStepGradient(t.table, loss, dtable);
  ComplexStepGradient(t.positions, loss, dpositions);
  EXPECT_GT(MaxAbs(dtable), 0.1);
  EXPECT_GT(MaxAbs(dpositions), 0.1);
  EXPECT_LT(RelativeError(t.dtable, dtable), 1e-14);
  EXPECT_LT(RelativeError(t.dpositions, dpositions), 1e-14);
}

TEST(EmbeddingTest, TheSameBitsWithAnyNumberOfThreads) {
  Tables one(DType::kF32, 400), three(DType::kF32, 400);
  for (const auto& [t, threads] : {std::pair{&one, 1}, {&three, 3}}) {
    FillNormal(t->y, 4);
    ASSERT_TRUE(EmbeddingBackward(TestContext(OpSet::kAuto, threads), t->y, t->tokens, kSeqLen,
                                  t->dtable, t->dpositions)
                    .ok());
  }
  EXPECT_GT(MaxAbs(one.dtable), 0.1);
  EXPECT_TRUE(SameBits(one.dtable, three.dtable));
  EXPECT_TRUE(SameBits(one.dpositions, three.dpositions));
}

TEST(EmbeddingTest, NonFiniteInputsShow) {
  const TestContext ctx;
  Tables t(DType::kF32, 4);
  t.table->data<float>()[t.tokens->data<int32_t>()[1] * kColumns + 2] = std::nanf("");
  ASSERT_TRUE(EmbeddingForward(ctx, t.tokens, t.table, t.positions, kSeqLen, 0, t.y).ok());
  EXPECT_TRUE(std::isnan(t.y->data<float>()[kColumns + 2]));
  ASSERT_TRUE(EmbeddingBackward(ctx, t.y, t.tokens, kSeqLen, t.dtable, t.dpositions).ok());
  EXPECT_TRUE(std::isnan(t.dpositions->data<float>()[kColumns + 2]));
}

TEST(EmbeddingTest, TokensOutsideTheTableAreNamedAndNothingIsWritten) {
  const TestContext ctx;
  for (const int32_t bad : {-1, int32_t{kVocabSize}}) {
    Tables t(DType::kF32, 8), untouched(DType::kF32, 8);
    t.tokens->data<int32_t>()[6] = bad;
    const absl::Status forward =
        EmbeddingForward(ctx, t.tokens, t.table, t.positions, kSeqLen, 0, t.y);
    EXPECT_EQ(forward.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(forward.message(), "[embedding] token 6 of 8 is " + std::to_string(bad) +
                                     ", outside the table's [0, 11)");
    EXPECT_TRUE(SameBits(t.y, untouched.y));
    FillConstant(t.y, 1);
    const absl::Status backward =
        EmbeddingBackward(ctx, t.y, t.tokens, kSeqLen, t.dtable, t.dpositions);
    EXPECT_EQ(backward.message(), forward.message());
    EXPECT_EQ(MaxAbs(t.dtable), 0);
    EXPECT_EQ(MaxAbs(t.dpositions), 0);
  }
}

TEST(EmbeddingDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  Tables t(DType::kF32, 8);
  TestTensor narrow(DType::kF32, {8, kColumns - 1});
  EXPECT_DEATH((void)EmbeddingForward(ctx, t.tokens, t.table, t.positions, kSeqLen, 0, narrow),
               "\\[embedding\\] tokens i32\\[8\\], table f32\\[11, 33\\], y f32\\[8, 32\\]");
  EXPECT_DEATH((void)EmbeddingForward(ctx, t.tokens, t.table, t.positions, 3, 0, t.y),
               "\\[embedding\\] tokens i32\\[8\\] in sequences of 3");
  EXPECT_DEATH((void)EmbeddingForward(ctx, t.tokens, t.table, t.positions, kSeqLen, 6, t.y),
               "positions f32\\[9, 33\\], sequences of 4 from position 6");
}

}  // namespace
}  // namespace strake
