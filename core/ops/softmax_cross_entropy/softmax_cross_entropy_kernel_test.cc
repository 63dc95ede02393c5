// The CUDA kernels of softmax cross-entropy, under the emulator and on a GPU, against the reference
// in f64.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "core/base/philox.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy_cuda.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy_reference.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::Copy;
using testing::ExpectNear;
using testing::FillNormal;
using testing::GuardAt;
using testing::GuardedBuffer;
using testing::kRoundoff;
using testing::SameBits;
using testing::ScopedRandomCudaOrder;
using testing::ToDouble;

constexpr double kUnit = 0x1p-24;
constexpr float kScale = 0.125f;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Size {
  int64_t rows, columns;
  VocabSlice slice;
};

template <typename T>
struct Problem {
  Problem(const Size& size, GuardAt guard_at, uint64_t seed = 1)
      : size(size),
        num_tokens(size.slice.NumTokens(size.columns)),
        logits("logits", size.rows * size.columns, guard_at),
        targets("targets", size.rows, guard_at),
        loss("loss", size.rows, guard_at),
        lse("lse", size.rows, guard_at),
        max("max", size.rows, guard_at),
        sums("sums", 2 * size.rows, guard_at) {
    FillNormal(logits, seed, 3);
    const Philox philox(2, RandomUse::kTesting);
    for (int64_t n = 0; n < size.rows; ++n) targets[n] = philox.Bits(n) % size.slice.vocab_size;
  }

  absl::Status Forward() {
    return cuda::SoftmaxCrossEntropyForward<T>(nullptr, {.logits = logits.data(),
                                                         .targets = targets.data(),
                                                         .rows = size.rows,
                                                         .columns = size.columns,
                                                         .vocab_size = size.slice.vocab_size,
                                                         .loss = loss.data(),
                                                         .lse = lse.data()});
  }
  absl::Status ForwardBackward() {
    return cuda::SoftmaxCrossEntropyForwardBackward<T>(nullptr,
                                                       {.targets = targets.data(),
                                                        .rows = size.rows,
                                                        .columns = size.columns,
                                                        .vocab_size = size.slice.vocab_size,
                                                        .scale = kScale,
                                                        .softcap = softcap,
                                                        .logits = logits.data(),
                                                        .loss = loss.data(),
                                                        .lse = lse.data()});
  }
  absl::Status SliceMax() {
    return cuda::SoftmaxSliceMax<T>(nullptr, {.logits = logits.data(),
                                              .rows = size.rows,
                                              .columns = size.columns,
                                              .slice = size.slice,
                                              .max = max.data()});
  }
  absl::Status SliceSums() {
    return cuda::SoftmaxSliceSums<T>(nullptr, {.logits = logits.data(),
                                               .targets = targets.data(),
                                               .rows = size.rows,
                                               .columns = size.columns,
                                               .slice = size.slice,
                                               .max = max.data(),
                                               .sums = sums.data()});
  }
  absl::Status FromSums() {
    return cuda::SoftmaxCrossEntropyFromSums(nullptr, {.targets = targets.data(),
                                                       .max = max.data(),
                                                       .sums = sums.data(),
                                                       .rows = size.rows,
                                                       .loss = loss.data(),
                                                       .lse = lse.data()});
  }
  absl::Status Backward() {
    return cuda::SoftmaxCrossEntropyBackward<T>(nullptr, {.targets = targets.data(),
                                                          .lse = lse.data(),
                                                          .rows = size.rows,
                                                          .columns = size.columns,
                                                          .slice = size.slice,
                                                          .scale = kScale,
                                                          .softcap = softcap,
                                                          .logits = logits.data()});
  }

  // The reference's backward pass, with this problem's lse.
  std::vector<double> Gradient(std::vector<double> x, const std::vector<double>& row_lse) const {
    reference::SoftmaxCrossEntropyBackward(targets.data(), row_lse.data(), size.rows, size.columns,
                                           size.slice.begin, num_tokens, double{kScale},
                                           double{softcap}, x.data());
    return x;
  }

  // Roundings of exp(x - max): two of an argument that is at most twice the largest logit (here
  // below 16), and two units of exp2f itself.
  static constexpr double kExpBound = (2 * 2 * 16 + 4) * kUnit;
  // Roundings of a sum of such terms, all positive: as many additions, and at most as many new
  // maxima, as a thread has elements, plus a tree over the block.
  double SumBound() const { return 2 * (kExpBound + (size.columns / 512. + 8 + 10) * kUnit); }

  Size size;
  int64_t num_tokens;
  GuardedBuffer<T> logits;
  GuardedBuffer<int32_t> targets;
  GuardedBuffer<float> loss, lse, max, sums;
  float softcap = 0;
};

template <typename T>
class SoftmaxCrossEntropyCudaTest : public ::testing::Test {};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(SoftmaxCrossEntropyCudaTest, Types);

// One element; ragged and padded; more than a block's loads in flight; more than shared memory
// holds.
const Size kWholes[] = {{1, 1, {1}},         {3, 7, {7}},        {0, 8, {8}},
                        {2, 64, {50}},       {5, 1027, {1027}},  {3, 4096, {4090}},
                        {1, 20000, {19999}}, {1, 51200, {51000}}};

TYPED_TEST(SoftmaxCrossEntropyCudaTest, TheWholeFollowsTheReference) {
  for (const Size& size : kWholes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      SCOPED_TRACE(::testing::Message() << size.rows << " x " << size.columns << ", guard "
                                        << static_cast<int>(guard_at));
      Problem<TypeParam> p(size, guard_at);
      const std::vector<double> x = ToDouble(p.logits);
      std::vector<double> loss(size.rows), lse(size.rows);
      for (int64_t n = 0; n < size.rows; ++n) {  // the reference does not support padding
        reference::SoftmaxCrossEntropyForward(x.data() + n * size.columns, p.targets.data() + n, 1,
                                              size.columns, size.slice.vocab_size, &loss[n],
                                              &lse[n]);
      }
      ASSERT_EQ(p.Forward(), absl::OkStatus());
      // An absolute bound: the error of the logarithm of the sum, and of numbers below 32.
      const double bound = p.SumBound() + 4 * 32 * kUnit;
      for (int64_t n = 0; n < size.rows; ++n) {
        EXPECT_NEAR(p.lse[n], lse[n], bound);
        EXPECT_NEAR(p.loss[n], loss[n], bound);
      }
      const std::vector<float> own_loss = Copy(p.loss), own_lse = Copy(p.lse);
      const std::vector<TypeParam> logits = Copy(p.logits);
      ASSERT_EQ(p.Backward(), absl::OkStatus());
      const std::vector<TypeParam> gradient = Copy(p.logits);
      if (size.columns > 1) {  // otherwise it is 0
        ExpectNear(ToDouble(p.logits), p.Gradient(x, lse),
                   bound + p.kExpBound + kRoundoff<TypeParam>, "gradient");
      }
      for (int64_t n = 0; n < size.rows; ++n) {
        for (int64_t c = size.slice.vocab_size; c < size.columns; ++c) {
          EXPECT_EQ(static_cast<float>(p.logits[n * size.columns + c]), 0);
        }
      }

      std::copy(logits.begin(), logits.end(), p.logits.begin());
      ASSERT_EQ(p.ForwardBackward(), absl::OkStatus());
      EXPECT_TRUE(SameBits(p.loss, own_loss));
      EXPECT_TRUE(SameBits(p.lse, own_lse));
      EXPECT_TRUE(SameBits(p.logits, gradient));
    }
  }
}

// The gradient alone depends on it.
TYPED_TEST(SoftmaxCrossEntropyCudaTest, ASoftcapFollowsTheReference) {
  for (const Size& size : {Size{3, 7, {7}}, {2, 64, {50}}, {3, 4096, {4090}}}) {
    SCOPED_TRACE(::testing::Message() << size.rows << " x " << size.columns);
    Problem<TypeParam> p(size, GuardAt::kEnd);
    p.softcap = 16;
    p.logits[2] = TypeParam(p.softcap);  // has no gradient any more
    const std::vector<TypeParam> logits = Copy(p.logits);
    const std::vector<double> x = ToDouble(p.logits);
    ASSERT_EQ(p.Forward(), absl::OkStatus());
    const std::vector<double> truth = p.Gradient(x, ToDouble(p.lse));
    ASSERT_EQ(p.Backward(), absl::OkStatus());
    const std::vector<TypeParam> gradient = Copy(p.logits);
    ExpectNear(ToDouble(p.logits), truth, p.kExpBound + 8 * kUnit + kRoundoff<TypeParam>,
               "gradient");
    EXPECT_EQ(static_cast<float>(p.logits[2]), 0);

    std::copy(logits.begin(), logits.end(), p.logits.begin());
    ASSERT_EQ(p.ForwardBackward(), absl::OkStatus());
    EXPECT_TRUE(SameBits(p.logits, gradient));
  }
}

// Slices in the middle, with padding, of padding only; ragged.
const Size kSlices[] = {{3, 40, {100, 40}}, {3, 40, {100, 80}},      {2, 16, {100, 112}},
                        {0, 8, {8, 0}},     {2, 5000, {9000, 5000}}, {4, 33, {66, 33}},
                        {2, 1, {3, 1}},     {1, 17000, {50000, 400}}};

TYPED_TEST(SoftmaxCrossEntropyCudaTest, ASliceFollowsTheReference) {
  for (const Size& size : kSlices) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      SCOPED_TRACE(::testing::Message()
                   << size.rows << " x " << size.columns << " from " << size.slice.begin
                   << ", guard " << static_cast<int>(guard_at));
      Problem<TypeParam> p(size, guard_at);
      // One target is within the slice, if the slice has tokens.
      if (size.rows > 0 && p.num_tokens > 0) {
        p.targets[0] = size.slice.begin + p.num_tokens - 1;
      }
      const std::vector<double> x = ToDouble(p.logits);
      std::vector<double> max(size.rows), sums(2 * size.rows);
      reference::SoftmaxSliceMax(x.data(), size.rows, size.columns, p.num_tokens, max.data());
      ASSERT_EQ(p.SliceMax(), absl::OkStatus());
      EXPECT_EQ(ToDouble(p.max), max);

      for (int64_t n = 0; n < size.rows; ++n) {  // in another slice
        max[n] = p.max[n] = std::max(p.max[n], 5.5f);
      }
      reference::SoftmaxSliceSums<double>({.logits = x.data(),
                                           .targets = p.targets.data(),
                                           .rows = size.rows,
                                           .columns = size.columns,
                                           .slice = size.slice,
                                           .max = max.data(),
                                           .sums = sums.data()},
                                          0, size.rows);
      ASSERT_EQ(p.SliceSums(), absl::OkStatus());
      for (int64_t n = 0; n < size.rows; ++n) {
        EXPECT_NEAR(p.sums[n], sums[n], p.SumBound() * sums[n]);
        EXPECT_NEAR(p.sums[size.rows + n], sums[size.rows + n], 32 * kUnit);
      }

      for (int64_t n = 0; n < size.rows; ++n) p.lse[n] = p.max[n] + 0.5f * n;
      const std::vector<double> gradient = p.Gradient(x, ToDouble(p.lse));
      ASSERT_EQ(p.Backward(), absl::OkStatus());
      if (p.num_tokens > 0) {
        ExpectNear(ToDouble(p.logits), gradient, p.kExpBound + kRoundoff<TypeParam>, "gradient");
      } else {
        EXPECT_EQ(ToDouble(p.logits), gradient);
      }
    }
  }
}

TYPED_TEST(SoftmaxCrossEntropyCudaTest, SumsOfSlicesMakeTheWhole) {
  Problem<TypeParam> whole({6, 48, {48}}, GuardAt::kStart);
  ASSERT_EQ(whole.Forward(), absl::OkStatus());
  std::vector<float> max(6, -kInfinity), sums(12, 0);
  for (int pass = 0; pass < 2; ++pass) {
    for (int64_t begin = 0; begin < 48; begin += 16) {
      Problem<TypeParam> p({6, 16, {48, begin}}, GuardAt::kStart);
      for (int n = 0; n < 6; ++n) {
        std::copy_n(whole.logits.data() + n * 48 + begin, 16, p.logits.data() + n * 16);
        p.max[n] = max[n];
      }
      ASSERT_EQ(pass == 0 ? p.SliceMax() : p.SliceSums(), absl::OkStatus());
      for (int n = 0; n < 6; ++n) max[n] = std::max(max[n], p.max[n]);
      if (pass == 1) {
        for (int i = 0; i < 12; ++i) sums[i] += p.sums[i];
      }
    }
  }
  Problem<TypeParam> all({6, 48, {48}}, GuardAt::kEnd);
  std::copy(max.begin(), max.end(), all.max.begin());
  std::copy(sums.begin(), sums.end(), all.sums.begin());
  ASSERT_EQ(all.FromSums(), absl::OkStatus());
  for (int n = 0; n < 6; ++n) {
    EXPECT_NEAR(all.loss[n], whole.loss[n], 2 * (whole.SumBound() + 4 * 32 * kUnit));
    EXPECT_NEAR(all.lse[n], whole.lse[n], 2 * (whole.SumBound() + 4 * 32 * kUnit));
  }
}

// Tests a thread that only sees -infinity, before or after others see numbers, and logits whose exp
// is infinite.
TYPED_TEST(SoftmaxCrossEntropyCudaTest, InfinitiesAndLargeLogits) {
  Problem<TypeParam> p({2, 600, {600}}, GuardAt::kStart);
  std::fill(p.logits.begin(), p.logits.end(), TypeParam(-kInfinity));
  p.targets[0] = 599;
  p.logits[599] = TypeParam(1000.f);
  p.targets[1] = 0;
  p.logits[600] = p.logits[900] = TypeParam(-2048.f);
  ASSERT_EQ(p.ForwardBackward(), absl::OkStatus());
  EXPECT_EQ(p.loss[0], 0);
  EXPECT_EQ(p.lse[0], 1000);
  EXPECT_NEAR(p.loss[1], std::log(2.), 2 * kUnit);
  for (int i = 0; i < 1200; ++i) {
    // lse is rounded by up to half of its unit, 2^-13.
    const double expected = i == 600 ? -0.5 * kScale : i == 900 ? 0.5 * kScale : 0;
    EXPECT_NEAR(static_cast<float>(p.logits[i]), expected, 0x1p-12 * kScale) << i;
  }
}

TYPED_TEST(SoftmaxCrossEntropyCudaTest, TargetsOutsideOfTheVocabularyMakeNan) {
  for (const int32_t target : {-2, 60, 2147483647, -2147483647 - 1}) {
    SCOPED_TRACE(target);
    Problem<TypeParam> p({3, 64, {60}}, GuardAt::kStart);
    p.targets[1] = target;
    ASSERT_EQ(p.SliceMax(), absl::OkStatus());
    ASSERT_EQ(p.SliceSums(), absl::OkStatus());
    ASSERT_EQ(p.ForwardBackward(), absl::OkStatus());
    for (int n = 0; n < 3; ++n) {
      EXPECT_EQ(std::isnan(p.loss[n]), n == 1);
      EXPECT_EQ(std::isnan(p.sums[3 + n]), n == 1);
      EXPECT_EQ(std::isnan(static_cast<float>(p.logits[n * 64 + 7])), n == 1);
      EXPECT_FALSE(std::isnan(p.lse[n]));
      EXPECT_EQ(static_cast<float>(p.logits[n * 64 + 61]), 0);  // padding
    }
  }
}

// Row 1 of 3; all others have the bits that they have beside any row.
TYPED_TEST(SoftmaxCrossEntropyCudaTest, ARowWithoutATargetCountsNothing) {
  const Size whole = {3, 64, {60}}, slice = {3, 64, {200, 70}};
  for (const float bad : {1.f, kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    for (const bool sliced : {false, true}) {
      for (const float softcap : {0.f, 16.f}) {
        SCOPED_TRACE(::testing::Message() << bad << (sliced ? " sliced " : " ") << softcap);
        Problem<TypeParam> p(sliced ? slice : whole, GuardAt::kEnd),
            expected(sliced ? slice : whole, GuardAt::kEnd);
        p.targets[1] = kNoTarget;
        for (const int v : {0, 7, 59}) p.logits[64 + v] = TypeParam(bad);
        for (Problem<TypeParam>* each : {&p, &expected}) {
          each->softcap = softcap;
          if (!sliced) {
            ASSERT_EQ(each->ForwardBackward(), absl::OkStatus());
            continue;
          }
          ASSERT_EQ(each->SliceMax(), absl::OkStatus());
          ASSERT_EQ(each->SliceSums(), absl::OkStatus());
          ASSERT_EQ(each->FromSums(), absl::OkStatus());
          ASSERT_EQ(each->Backward(), absl::OkStatus());
        }
        EXPECT_EQ(p.loss[1], 0);
        EXPECT_FALSE(std::signbit(p.loss[1]));
        if (sliced) {
          EXPECT_EQ(p.sums[3 + 1], 0);
        }
        for (const int n : {0, 2}) EXPECT_EQ(p.loss[n], expected.loss[n]);
        for (int i = 0; i < 3 * 64; ++i) {
          const float gradient = static_cast<float>(p.logits[i]);
          if (i / 64 == 1) {
            EXPECT_EQ(gradient, 0) << i;
          } else {
            EXPECT_EQ(gradient, static_cast<float>(expected.logits[i])) << i;
          }
        }
      }
    }
  }
}

TYPED_TEST(SoftmaxCrossEntropyCudaTest, LogitsMayBeUnaligned) {
  Problem<TypeParam> p({3, 64, {64}}, GuardAt::kStart);
  ASSERT_EQ(
      cuda::SoftmaxCrossEntropyForwardBackward<TypeParam>(nullptr, {.targets = p.targets.data(),
                                                                    .rows = 2,
                                                                    .columns = 64,
                                                                    .vocab_size = 64,
                                                                    .scale = kScale,
                                                                    .softcap = 0,
                                                                    .logits = p.logits.data() + 1,
                                                                    .loss = p.loss.data(),
                                                                    .lse = p.lse.data()}),
      absl::OkStatus());
  EXPECT_TRUE(std::isfinite(p.loss[1]));
}

TYPED_TEST(SoftmaxCrossEntropyCudaTest, TheSameBitsInEveryOrderOfThreads) {
  for (const Size& size : {Size{3, 1600, {1590}}, Size{2, 333, {333}}}) {
    std::vector<float> loss, sums;
    std::vector<TypeParam> gradient;
    for (uint64_t seed = 0; seed < 3; ++seed) {
      Problem<TypeParam> p(size, GuardAt::kStart);
      std::optional<ScopedRandomCudaOrder> order;
      if (seed > 0) order.emplace(seed);
      ASSERT_EQ(p.SliceMax(), absl::OkStatus());
      ASSERT_EQ(p.SliceSums(), absl::OkStatus());
      ASSERT_EQ(p.ForwardBackward(), absl::OkStatus());
      if (seed == 0) {
        loss = Copy(p.loss);
        sums = Copy(p.sums);
        gradient = Copy(p.logits);
      }
      EXPECT_TRUE(SameBits(p.loss, loss)) << seed;
      EXPECT_TRUE(SameBits(p.sums, sums)) << seed;
      EXPECT_TRUE(SameBits(p.logits, gradient)) << seed;
    }
  }
}

}  // namespace
}  // namespace strake
