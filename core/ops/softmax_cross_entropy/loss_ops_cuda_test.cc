// Softmax cross-entropy on a GPU.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::CopyConvert;
using testing::CudaDryRunPeakBytes;
using testing::CudaDryRunTensor;
using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::FillNormal;
using testing::FillTokens;
using testing::GetElement;
using testing::RelativeError;
using testing::SameBits;
using testing::SetElement;
using testing::TestContext;
using testing::TestTensor;

constexpr double kScale = 0.125;
// The error of exp(x - max): the argument, below 32 here, is rounded twice, and exp2f errs by two
// units. A sum of V such terms adds at most a few dozen roundings, because each thread adds V / 512
// and a tree adds the rest. The logarithm, the maximum and the loss are below 32 and rounded once
// each.
constexpr double kBound = 2 * (2 * 32 + 4 + 30 + 4 * 32) * 0x1p-24;

double Roundoff(DType dtype) { return dtype == DType::kF32 ? 0x1p-24 : 0x1p-8; }

struct HostProblem {
  HostProblem(DType dtype, int64_t rows, int64_t columns, int64_t vocab_size)
      : logits(dtype, {rows, columns}), targets(DType::kI32, {rows}) {
    FillNormal(logits, 1, 3);
    FillTokens(targets, 2, vocab_size);
  }
  TestTensor logits, targets;
};

// The same numbers in f64.
struct InF64 : TestTensor {
  explicit InF64(const Tensor& x) : TestTensor(DType::kF64, x.shape()) { CopyConvert(x, *this); }
};

void ExpectNear(const Tensor& got, const Tensor& expected, double bound) {
  for (int64_t i = 0; i < expected.num_elements(); ++i) {
    EXPECT_NEAR(GetElement(got, i).real(), GetElement(expected, i).real(), bound) << i;
  }
}

TEST(SoftmaxCrossEntropyOnCudaTest, TheWholeFollowsF64) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{3, 7}, {2, 1030}, {0, 8}}) {
      SCOPED_TRACE(::testing::Message() << DTypeName(dtype) << " " << rows << " x " << columns);
      const CudaTestContext ctx;
      const TestContext cpu;
      const HostProblem host(dtype, rows, columns, columns);
      const VocabSlice slice = {.vocab_size = columns};
      const CudaTestTensor logits(host.logits), targets(host.targets), loss(DType::kF32, {rows}),
          lse(DType::kF32, {rows});
      ASSERT_TRUE(SoftmaxCrossEntropyForward(ctx, logits, targets, columns, loss, lse).ok());
      ASSERT_TRUE(
          SoftmaxCrossEntropyBackward(ctx, targets, lse, kScale, /*softcap=*/0, slice, logits)
              .ok());
      const InF64 x(host.logits);
      const TestTensor true_loss(DType::kF64, {rows}), true_lse(DType::kF64, {rows});
      ASSERT_TRUE(
          SoftmaxCrossEntropyForward(cpu, x, host.targets, columns, true_loss, true_lse).ok());
      ASSERT_TRUE(
          SoftmaxCrossEntropyBackward(cpu, host.targets, true_lse, kScale, /*softcap=*/0, slice, x)
              .ok());
      ExpectNear(loss.ToHost(), true_loss, kBound);
      ExpectNear(lse.ToHost(), true_lse, kBound);
      EXPECT_LE(RelativeError(logits.ToHost(), x), kBound + Roundoff(dtype));
      EXPECT_EQ(Context(ctx).arena().peak_bytes(), 0);
    }
  }
}

TEST(SoftmaxCrossEntropyOnCudaTest, BothPassesAtOnceAreThoseInARow) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{3, 7}, {2, 1032}, {0, 8}}) {
      SCOPED_TRACE(::testing::Message() << DTypeName(dtype) << " " << rows << " x " << columns);
      const CudaTestContext ctx;
      // The last columns are padding, if there are enough columns.
      const int64_t vocab_size = columns > 8 ? columns - 5 : columns;
      const HostProblem host(dtype, rows, columns, vocab_size);
      const CudaTestTensor targets(host.targets), logits(host.logits), both(host.logits);
      const CudaTestTensor loss(DType::kF32, {rows}), lse(DType::kF32, {rows}),
          both_loss(DType::kF32, {rows}), both_lse(DType::kF32, {rows});
      ASSERT_TRUE(SoftmaxCrossEntropyForward(ctx, logits, targets, vocab_size, loss, lse).ok());
      ASSERT_TRUE(SoftmaxCrossEntropyBackward(ctx, targets, lse, kScale, /*softcap=*/0,
                                              {vocab_size}, logits)
                      .ok());
      ASSERT_TRUE(SoftmaxCrossEntropyForwardBackward(ctx, targets, vocab_size, kScale,
                                                     /*softcap=*/0, both, both_loss, both_lse)
                      .ok());
      EXPECT_TRUE(SameBits(both_loss.ToHost(), loss.ToHost()));
      EXPECT_TRUE(SameBits(both_lse.ToHost(), lse.ToHost()));
      EXPECT_TRUE(SameBits(both.ToHost(), logits.ToHost()));
      if (rows > 0) {
        EXPECT_FALSE(SameBits(both.ToHost(), host.logits));
      }
    }
  }
}

// Two slices, the second with padding, on one GPU; the test computes the collectives.
TEST(SoftmaxCrossEntropyOnCudaTest, SlicesFollowF64) {
  constexpr int64_t kRows = 4, kColumns = 40, kVocab = 70;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    SCOPED_TRACE(DTypeName(dtype));
    const CudaTestContext ctx;
    const TestContext cpu;
    const HostProblem host[] = {{dtype, kRows, kColumns, kVocab}, {dtype, kRows, kColumns, kVocab}};
    FillNormal(host[1].logits, 7, 3);
    const CudaTestTensor targets(host[0].targets);
    const TestTensor whole(DType::kF64, {kRows, kVocab}), max(DType::kF32, {kRows}),
        sums(DType::kF32, {2, kRows}), loss(DType::kF64, {kRows}), lse(DType::kF64, {kRows});
    for (int64_t n = 0; n < kRows; ++n) {
      for (int64_t v = 0; v < kVocab; ++v) {
        SetElement(whole, n * kVocab + v,
                   GetElement(host[v / kColumns].logits, n * kColumns + v % kColumns));
      }
    }
    ASSERT_TRUE(SoftmaxCrossEntropyForward(cpu, whole, host[0].targets, kVocab, loss, lse).ok());
    ASSERT_TRUE(SoftmaxCrossEntropyBackward(cpu, host[0].targets, lse, kScale, /*softcap=*/0,
                                            {kVocab}, whole)
                    .ok());

    testing::FillConstant(max, -INFINITY);
    testing::FillConstant(sums, 0);
    const CudaTestTensor logits[] = {CudaTestTensor(host[0].logits),
                                     CudaTestTensor(host[1].logits)};
    const auto slice = [&](int i) { return VocabSlice{kVocab, i * kColumns}; };
    for (int i = 0; i < 2; ++i) {
      const CudaTestTensor part(DType::kF32, {kRows});
      ASSERT_TRUE(SoftmaxSliceMax(ctx, logits[i], slice(i), part).ok());
      const HostCopy copy = part.ToHost();
      for (int64_t n = 0; n < kRows; ++n) {
        max->data<float>()[n] = std::max(max->data<float>()[n], copy.tensor().data<float>()[n]);
      }
    }
    const CudaTestTensor cuda_max(max);
    for (int i = 0; i < 2; ++i) {
      const CudaTestTensor part(DType::kF32, {2, kRows});
      ASSERT_TRUE(SoftmaxSliceSums(ctx, logits[i], targets, slice(i), cuda_max, part).ok());
      const HostCopy copy = part.ToHost();
      for (int64_t n = 0; n < 2 * kRows; ++n) {
        sums->data<float>()[n] += copy.tensor().data<float>()[n];
      }
    }
    const CudaTestTensor cuda_sums(sums), got_loss(DType::kF32, {kRows}),
        got_lse(DType::kF32, {kRows});
    ASSERT_TRUE(
        SoftmaxCrossEntropyFromSums(ctx, targets, cuda_max, cuda_sums, got_loss, got_lse).ok());
    ExpectNear(got_loss.ToHost(), loss, kBound);
    ExpectNear(got_lse.ToHost(), lse, kBound);
    const TestTensor gradient(DType::kF32, {kRows, kVocab});
    for (int i = 0; i < 2; ++i) {
      ASSERT_TRUE(SoftmaxCrossEntropyBackward(ctx, targets, got_lse, kScale, /*softcap=*/0,
                                              slice(i), logits[i])
                      .ok());
      const HostCopy copy = logits[i].ToHost();
      for (int64_t j = 0; j < kRows * kColumns; ++j) {
        const int64_t n = j / kColumns, v = i * kColumns + j % kColumns;
        if (v < kVocab) {
          SetElement(gradient, n * kVocab + v, GetElement(copy, j));
        } else {
          EXPECT_EQ(GetElement(copy, j), 0.) << n << ", " << v;
        }
      }
    }
    EXPECT_LE(RelativeError(gradient, whole), kBound + Roundoff(dtype));
  }
}

// Nothing waits to report the error.
TEST(SoftmaxCrossEntropyOnCudaTest, ATargetOutsideTheVocabularyMakesItsRowNaN) {
  const CudaTestContext ctx;
  const HostProblem host(DType::kF32, 3, 8, 8);
  host.targets->data<int32_t>()[1] = 8;
  const CudaTestTensor logits(host.logits), targets(host.targets), loss(DType::kF32, {3}),
      lse(DType::kF32, {3});
  ASSERT_TRUE(SoftmaxCrossEntropyForward(ctx, logits, targets, 8, loss, lse).ok());
  const HostCopy got = loss.ToHost();
  for (int n = 0; n < 3; ++n) {
    EXPECT_EQ(std::isnan(got.tensor().data<float>()[n]), n == 1);
  }
}

TEST(SoftmaxCrossEntropyOnCudaTest, ADryRunRunsNothing) {
  const size_t planned = CudaDryRunPeakBytes([](const Context& ctx) {
    const auto f32 = [](const Shape& shape) { return CudaDryRunTensor(DType::kF32, shape); };
    const Tensor logits = CudaDryRunTensor(DType::kBf16, {3, 8}),
                 targets = CudaDryRunTensor(DType::kI32, {3});
    ASSERT_TRUE(SoftmaxCrossEntropyForward(ctx, logits, targets, 8, f32({3}), f32({3})).ok());
    ASSERT_TRUE(SoftmaxCrossEntropyForwardBackward(ctx, targets, 8, 1, /*softcap=*/0, logits,
                                                   f32({3}), f32({3}))
                    .ok());
    ASSERT_TRUE(SoftmaxSliceMax(ctx, logits, {8}, f32({3})).ok());
    ASSERT_TRUE(SoftmaxSliceSums(ctx, logits, targets, {8}, f32({3}), f32({2, 3})).ok());
    ASSERT_TRUE(
        SoftmaxCrossEntropyFromSums(ctx, targets, f32({3}), f32({2, 3}), f32({3}), f32({3})).ok());
    ASSERT_TRUE(
        SoftmaxCrossEntropyBackward(ctx, targets, f32({3}), 1, /*softcap=*/0, {8}, logits).ok());
  });
  EXPECT_EQ(planned, 0);
}

TEST(SoftmaxCrossEntropyOnCudaDeathTest, LossesAreF32) {
  const CudaTestContext ctx;
  const HostProblem host(DType::kBf16, 3, 8, 8);
  const CudaTestTensor logits(host.logits), targets(host.targets), bf16(DType::kBf16, {3});
  EXPECT_DEATH((void)SoftmaxCrossEntropyForward(ctx, logits, targets, 8, bf16, bf16),
               "loss bf16\\[3\\]");
}

}  // namespace
}  // namespace strake
