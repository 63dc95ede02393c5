#include "core/ops/embedding/embedding.h"

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
using testing::SetElement;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

constexpr int64_t kVocabSize = 11, kColumns = 33;
constexpr VocabSlice kWhole = {.vocab_size = kVocabSize};

// The table of the whole vocabulary, or the table of a slice: `rows` rows from `first` on. Padding
// stays NaN.
struct Tables {
  Tables(DType dtype, int64_t num_tokens, int64_t rows = kVocabSize, int64_t first = 0)
      : slice{.vocab_size = kVocabSize, .begin = first},
        tokens(DType::kI32, {num_tokens}),
        table(dtype, {rows, kColumns}),
        y(dtype, {num_tokens, kColumns}),
        dtable(dtype, {rows, kColumns}) {
    FillTokens(tokens, 1, kVocabSize);
    TestTensor whole(dtype, {kVocabSize, kColumns});
    FillSmallIntegers(whole, 2);
    for (int64_t i = 0; i < slice.NumTokens(rows) * kColumns; ++i) {
      SetElement(table, i, GetElement(whole, first * kColumns + i));
    }
    FillConstant(dtable, 0);
  }
  absl::Status Forward(const Context& ctx) {
    return EmbeddingForward(ctx, tokens, slice, table, y);
  }
  absl::Status Backward(const Context& ctx) {
    return EmbeddingBackward(ctx, y, tokens, slice, dtable);
  }
  int64_t Token(int64_t n) const { return tokens->data<int32_t>()[n]; }

  const VocabSlice slice;
  TestTensor tokens, table, y, dtable;
};

TEST(EmbeddingTest, RowsOfTokens) {
  const TestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kC128}) {
    for (const int64_t num_tokens : {0, 4, 40}) {
      Tables t(dtype, num_tokens);
      ASSERT_TRUE(t.Forward(ctx).ok());
      for (int64_t i = 0; i < t.y->num_elements(); ++i) {
        ASSERT_EQ(GetElement(t.y, i),
                  GetElement(t.table, t.Token(i / kColumns) * kColumns + i % kColumns));
      }
    }
  }
}

TEST(EmbeddingTest, BackwardAddsRowsExactly) {
  const TestContext ctx;
  Tables t(DType::kF32, 40);
  TestTensor dtable(DType::kF32, {kVocabSize, kColumns});
  FillSmallIntegers(t.y, 4);
  FillConstant(t.dtable, 3);
  FillConstant(dtable, 3);
  for (int64_t i = 0; i < t.y->num_elements(); ++i) {
    dtable->data<float>()[t.Token(i / kColumns) * kColumns + i % kColumns] += t.y->data<float>()[i];
  }
  ASSERT_TRUE(t.Backward(ctx).ok());
  EXPECT_TRUE(SameBits(t.dtable, dtable));
}

// A pipeline sums the rows on one rank, and adds them on another.
TEST(EmbeddingTest, BackwardAddsSumsOfRows) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const int64_t num_tokens : {1, 40}) {
      Tables sums(dtype, num_tokens), t(dtype, num_tokens);
      TestTensor expected(dtype, t.dtable->shape());
      FillNormal(sums.y, 4);
      FillNormal(t.y, 4);
      FillNormal(t.dtable, 5);
      FillNormal(expected, 5);
      const TestContext ctx;
      ASSERT_TRUE(sums.Backward(ctx).ok());
      ASSERT_TRUE(t.Backward(ctx).ok());
      for (int64_t i = 0; i < expected->num_elements(); ++i) {
        SetElement(expected, i, GetElement(expected, i) + GetElement(sums.dtable, i));
      }
      EXPECT_TRUE(SameBits(t.dtable, expected)) << num_tokens;
    }
  }
}

// T tables of equal size. Eight tables of 2 rows hold 11 tokens: one half table and two whole
// tables are padding.
TEST(EmbeddingTest, ASliceKnowsItsOwnTokensOnly) {
  const TestContext ctx;
  for (const int64_t num_slices : {1, 2, 3, 8}) {
    const int64_t rows = (kVocabSize + num_slices - 1) / num_slices;
    Tables whole(DType::kF32, 40);
    ASSERT_TRUE(whole.Forward(ctx).ok());
    ASSERT_TRUE(whole.Backward(ctx).ok());
    int64_t found = 0;
    for (int64_t first = 0; first < rows * num_slices; first += rows) {
      Tables part(DType::kF32, 40, rows, first);
      ASSERT_TRUE(part.Forward(ctx).ok());
      for (int64_t n = 0; n < 40; ++n) {
        const bool own = part.Token(n) >= first && part.Token(n) < first + rows;
        found += own;
        for (int64_t i = n * kColumns; i < (n + 1) * kColumns; ++i) {
          ASSERT_EQ(part.y->data<float>()[i], own ? whole.y->data<float>()[i] : 0);
        }
      }
      // Adds a row before and a row after, because adding to a red zone's NaN does not show.
      TestTensor guarded(DType::kF32, {rows + 2, kColumns});
      FillConstant(guarded, 0);
      ASSERT_TRUE(
          EmbeddingBackward(ctx, whole.y, part.tokens, part.slice, guarded->Rows(1, rows + 1))
              .ok());
      for (int64_t i = 0; i < guarded->num_elements(); ++i) {
        const int64_t r = i / kColumns - 1, token = first + r;
        const bool own = r >= 0 && r < rows && token < kVocabSize;
        ASSERT_EQ(guarded->data<float>()[i],
                  own ? whole.dtable->data<float>()[token * kColumns + i % kColumns] : 0);
      }
    }
    EXPECT_EQ(found, 40);
    EXPECT_GT(MaxAbs(whole.dtable), 0);
  }
}

TEST(EmbeddingTest, GradientByComplexStep) {
  const TestContext ctx;
  for (const int64_t first : {0, 3}) {
    Tables t(DType::kC128, 8, kVocabSize - 2 * first, first);
    TestTensor dy(DType::kC128, {8, kColumns}), dtable(DType::kF64, t.table->shape());
    FillNormal(dy, 4);
    ASSERT_TRUE(EmbeddingBackward(ctx, dy, t.tokens, t.slice, t.dtable).ok());
    const auto loss = [&] {
      EXPECT_TRUE(t.Forward(ctx).ok());
      return WeightedSum(t.y, dy);
    };
    ComplexStepGradient(t.table, loss, dtable);
    EXPECT_GT(MaxAbs(dtable), 0.1);
    EXPECT_LT(RelativeError(t.dtable, dtable), 1e-14);
  }
}

TEST(EmbeddingTest, TheSameBitsWithAnyNumberOfThreads) {
  Tables one(DType::kF32, 400), three(DType::kF32, 400);
  for (const auto& [t, threads] : {std::pair{&one, 1}, {&three, 3}}) {
    FillNormal(t->y, 4);
    ASSERT_TRUE(t->Backward(TestContext(OpSet::kAuto, threads)).ok());
  }
  EXPECT_GT(MaxAbs(one.dtable), 0.1);
  EXPECT_TRUE(SameBits(one.dtable, three.dtable));
}

TEST(EmbeddingTest, NonFiniteInputsShow) {
  const TestContext ctx;
  Tables t(DType::kF32, 4);
  const int64_t at = t.Token(1) * kColumns + 2;
  t.table->data<float>()[at] = std::nanf("");
  ASSERT_TRUE(t.Forward(ctx).ok());
  EXPECT_TRUE(std::isnan(t.y->data<float>()[kColumns + 2]));
  ASSERT_TRUE(t.Backward(ctx).ok());
  EXPECT_TRUE(std::isnan(t.dtable->data<float>()[at]));
}

TEST(EmbeddingTest, TokensOutsideTheVocabularyAreNamedByEverySliceAndNothingIsWritten) {
  const TestContext ctx;
  for (const int64_t first : {0, 6, 12}) {
    for (const int32_t bad : {-1, int32_t{kVocabSize}}) {
      Tables t(DType::kF32, 8, 6, first), untouched(DType::kF32, 8);
      t.tokens->data<int32_t>()[6] = bad;
      const absl::Status forward = t.Forward(ctx);
      EXPECT_EQ(forward.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_EQ(forward.message(), "[embedding] token 6 of 8 is " + std::to_string(bad) +
                                       ", outside the vocabulary's [0, 11)");
      EXPECT_TRUE(SameBits(t.y, untouched.y));
      FillConstant(t.y, 1);
      EXPECT_EQ(t.Backward(ctx).message(), forward.message());
      EXPECT_EQ(MaxAbs(t.dtable), 0);
    }
  }
}

TEST(EmbeddingTest, TokensAreChecked) {
  TestTensor tokens(DType::kI32, {4}), none(DType::kI32, {0});
  FillTokens(tokens, 1, kVocabSize);
  EXPECT_TRUE(CheckTokens(none, kVocabSize).ok());
  EXPECT_TRUE(CheckTokens(tokens, kVocabSize).ok());
  tokens->data<int32_t>()[3] = kVocabSize;
  EXPECT_EQ(CheckTokens(tokens, kVocabSize).message(),
            "[embedding] token 3 of 4 is 11, outside the vocabulary's [0, 11)");
  EXPECT_TRUE(CheckTokens(tokens, kVocabSize + 1).ok());
  tokens->data<int32_t>()[0] = -1;
  EXPECT_EQ(CheckTokens(tokens, kVocabSize + 1).code(), absl::StatusCode::kInvalidArgument);
}

TEST(EmbeddingDeathTest, WrongShapesAndSlicesAreNamed) {
  const TestContext ctx;
  Tables t(DType::kF32, 8);
  TestTensor narrow(DType::kF32, {8, kColumns - 1});
  EXPECT_DEATH((void)EmbeddingForward(ctx, t.tokens, kWhole, t.table, narrow),
               "\\[embedding\\] tokens i32\\[8\\], table f32\\[11, 33\\], y f32\\[8, 32\\]");
  EXPECT_DEATH((void)EmbeddingForward(ctx, t.tokens, {}, t.table, t.y), "slice from 0 of 0");
  EXPECT_DEATH(
      (void)EmbeddingBackward(ctx, t.y, t.tokens, {.vocab_size = 11, .begin = -2}, t.dtable),
      "slice from -2 of 11");
}

}  // namespace
}  // namespace strake
