#include "core/ops/rope/rope.h"

#include <cmath>
#include <complex>
#include <string>
#include <utility>
#include <vector>

#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using testing::CopyConvert;
using testing::FillNormal;
using testing::GetElement;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

std::vector<double> Frequencies(const RopeConfig& config, int64_t rotary_dim,
                                int64_t num_positions = 1) {
  TestTensor f(DType::kF64, {rotary_dim / 2});
  RopeFrequencies(config, num_positions, f);
  return {f->data<double>(), f->data<double>() + rotary_dim / 2};
}

TEST(RopeTest, FrequenciesOfThePaper) {
  const std::vector<double> f = Frequencies({}, 8);
  const double expected[] = {1, 0.1, 0.01, 0.001};
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(f[i], expected[i], 1e-16);
}

TEST(RopeTest, LinearScalingDividesAll) {
  const std::vector<double> f = Frequencies({.theta = 256, .scaling = RopeLinearScaling{8}}, 8);
  for (int i = 0; i < 4; ++i) EXPECT_DOUBLE_EQ(f[i], std::pow(4, -i) / 8);
}

TEST(RopeTest, DynamicScalingChangesNothing) {
  EXPECT_EQ(Frequencies({.scaling = RopeDynamicScaling{8}}, 8, 1000), Frequencies({}, 8));
}

TEST(RopeTest, WavelengthScalingStretchesLongWavelengths) {
  // theta = 2^16 and R = 8: frequencies 1, 2^-4, 2^-8, 2^-12, wavelengths 2 pi 2^(4 i). Within
  // 2^10 pi positions that is 512, 32, 2 and 1/8 rotations.
  RopeWavelengthScaling scaling;
  scaling.original_positions = 3217;  // 1024 pi, to 4e-6
  const std::vector<double> f = Frequencies({.theta = 65536, .scaling = scaling}, 8);
  EXPECT_DOUBLE_EQ(f[0], 1);
  EXPECT_DOUBLE_EQ(f[1], 0x1p-4);
  // A third of the way from 1 rotation to 4: (1 - 1/3) f / 8 + f / 3 = 5/12 f.
  EXPECT_NEAR(f[2], 5.0 / 12 * 0x1p-8, 1e-5 * 0x1p-8);
  EXPECT_DOUBLE_EQ(f[3], 0x1p-12 / 8);
}

// theta = 2^16 and R = 16: frequencies 2^(-2i). Over 2^10 pi positions, feature i turns 2^(9 - 2i)
// times.
constexpr RopeYarnScaling kYarn = {
    .factor = 8, .original_positions = 3217, .fast_rotations = 128, .slow_rotations = 2};

TEST(RopeTest, YarnBlendsBetweenTwoNumbersOfRotations) {
  // Feature 1 turns 2^7 times, feature 4 turns 2 times. 3217 / (1024 pi) is 1 + 4e-6, which moves
  // features by 3e-6 of their distance.
  RopeYarnScaling scaling = kYarn;
  scaling.whole_range = false;
  const std::vector<double> f = Frequencies({.theta = 65536, .scaling = scaling}, 16);
  const double stretched[] = {0, 0, 1.0 / 3, 2.0 / 3, 1, 1, 1, 1};
  for (int i = 0; i < 8; ++i) {
    const double base = std::pow(4, -i);
    EXPECT_NEAR(f[i], base * (stretched[i] / 8 + 1 - stretched[i]), 3e-6 * base) << i;
  }
}

TEST(RopeTest, YarnRoundsItsRangeToFeatures) {
  // 2^(9 - 2i) is 100 at i = 1.18 and 3 at i = 3.71: the range is from 1 to 4.
  RopeYarnScaling scaling = kYarn;
  scaling.fast_rotations = 100;
  scaling.slow_rotations = 3;
  const std::vector<double> f = Frequencies({.theta = 65536, .scaling = scaling}, 16);
  const double stretched[] = {0, 0, 1.0 / 3, 2.0 / 3, 1, 1, 1, 1};
  for (int i = 0; i < 8; ++i) {
    const double base = std::pow(4, -i);
    EXPECT_NEAR(f[i], base * (stretched[i] / 8 + 1 - stretched[i]), 1e-15 * base) << i;
  }
}

TEST(RopeTest, YarnsRangeEndsWithTheFeatures) {
  // More than 2^9 rotations are before the first feature; fewer than 2^-21 would be feature 15.
  RopeYarnScaling scaling = kYarn;
  scaling.fast_rotations = 1e6;
  scaling.slow_rotations = 1e-9;
  const std::vector<double> f = Frequencies({.theta = 65536, .scaling = scaling}, 16);
  for (int i = 0; i < 8; ++i) {
    const double base = std::pow(4, -i), stretched = i / 15.0;
    EXPECT_NEAR(f[i], base * (stretched / 8 + 1 - stretched), 1e-15 * base) << i;
  }
  // An empty range: a step.
  scaling.fast_rotations = scaling.slow_rotations = 8;
  scaling.original_positions = 3218;  // 8 rotations are at 3.0002
  scaling.whole_range = false;
  const std::vector<double> step = Frequencies({.theta = 65536, .scaling = scaling}, 16);
  for (int i = 0; i < 8; ++i) {
    EXPECT_NEAR(step[i], std::pow(4, -i) / (i < 4 ? 1 : 8), 1e-15 * std::pow(4, -i)) << i;
  }
}

TEST(RopeTest, LongScalingHasFactorsForShortAndForLongTables) {
  const RopeConfig config = {
      .theta = 256,
      .scaling = RopeLongScaling{
          .short_factors = {1, 1, 2, 4}, .long_factors = {1, 2, 8, 16}, .original_positions = 20}};
  const std::vector<double> at_20 = Frequencies(config, 8, 20), at_21 = Frequencies(config, 8, 21);
  const double short_factors[] = {1, 1, 2, 4}, long_factors[] = {1, 2, 8, 16};
  for (int i = 0; i < 4; ++i) {
    EXPECT_DOUBLE_EQ(at_20[i], std::pow(4, -i) / short_factors[i]);
    EXPECT_DOUBLE_EQ(at_21[i], std::pow(4, -i) / long_factors[i]);
  }
}

TEST(RopeTest, TableHoldsCosinesAndSines) {
  TestTensor table(DType::kF64, {3, 4});
  RopeTable({.theta = 100}, table);
  for (int p = 0; p < 3; ++p) {
    const double* row = table->data<double>() + 4 * p;
    EXPECT_DOUBLE_EQ(row[0], std::cos(p));
    EXPECT_DOUBLE_EQ(row[1], std::cos(0.1 * p));
    EXPECT_DOUBLE_EQ(row[2], std::sin(p));
    EXPECT_DOUBLE_EQ(row[3], std::sin(0.1 * p));
  }
}

TEST(RopeTest, TableHasTheScalingOfItsLengthAndTheAttentionFactor) {
  const RopeLongScaling scaling = {
      .short_factors = {2}, .long_factors = {4}, .original_positions = 3, .attention_factor = 1.5};
  for (const int64_t num_positions : {3, 4}) {
    TestTensor table(DType::kF64, {num_positions, 2});
    RopeTable({.scaling = scaling}, table);
    const double divisor = num_positions == 3 ? 2 : 4;
    for (int64_t p = 0; p < num_positions; ++p) {
      EXPECT_DOUBLE_EQ(table->data<double>()[2 * p], 1.5 * std::cos(p / divisor));
      EXPECT_DOUBLE_EQ(table->data<double>()[2 * p + 1], 1.5 * std::sin(p / divisor));
    }
  }
}

// Sequences of 6 tokens with 3 heads, of which 2 are rotated.
constexpr int64_t kSeqLen = 6, kHeads = 2, kAllHeads = 3;

// How a head is rotated; rotary_dim 0: all of it.
struct Layout {
  int64_t head_dim, rotary_dim = 0;
  bool interleaved = false;
};

// Whole heads and parts of them, of less than a vector, and of whole vectors with and without a
// rest.
constexpr Layout kLayouts[] = {{2},
                               {6},
                               {64},
                               {128},
                               {64, 16},
                               {40, 32},
                               {10, 6},
                               {2, 2, true},
                               {6, 6, true},
                               {64, 64, true},
                               {128, 0, true},
                               {64, 16, true},
                               {48, 36, true},
                               {10, 6, true}};

struct Rope {
  Rope(DType dtype, const Layout& layout, int64_t sequences = 2, const RopeConfig& config = {})
      : head_dim(layout.head_dim),
        rotary_dim(layout.rotary_dim == 0 ? head_dim : layout.rotary_dim),
        heads({kHeads, head_dim, layout.interleaved}),
        table(DType::kF64, {32, rotary_dim}),
        x(dtype, {sequences * kSeqLen, kAllHeads * head_dim}),
        y(dtype, {sequences * kSeqLen, kAllHeads * head_dim}) {
    RopeTable(config, table);
    FillNormal(x, 1);
  }
  void Forward(const Context& ctx, int64_t position_offset = 0) {
    CopyConvert(x, y);
    ASSERT_TRUE(RopeForward(ctx, table, heads, kSeqLen, position_offset, y).ok());
  }
  // The places in a head of pair i.
  std::pair<int64_t, int64_t> Pair(int64_t i) const {
    if (heads.interleaved) return {2 * i, 2 * i + 1};
    return {i, i + rotary_dim / 2};
  }
  int64_t head_dim, rotary_dim;
  RopeHeads heads;
  TestTensor table, x, y;
};

TEST(RopeTest, RotatesPairsAsComplexNumbers) {
  for (const Layout& layout : kLayouts) {
    SCOPED_TRACE(::testing::Message() << layout.head_dim << ", rotated " << layout.rotary_dim
                                      << ", interleaved " << layout.interleaved);
    Rope rope(DType::kF64, layout);
    rope.Forward(TestContext(), 3);
    for (int64_t n = 0; n < 2 * kSeqLen; ++n) {
      for (int64_t h = 0; h < kAllHeads; ++h) {
        const int64_t head = (n * kAllHeads + h) * rope.head_dim;
        const auto pair = [&](const Tensor& t, int64_t i) {
          const auto [first, second] = rope.Pair(i);
          return std::complex<double>(GetElement(t, head + first).real(),
                                      GetElement(t, head + second).real());
        };
        for (int64_t i = 0; i < rope.rotary_dim / 2; ++i) {
          const double angle = (3 + n % kSeqLen) * std::pow(10000, -2.0 * i / rope.rotary_dim);
          const std::complex<double> turn = std::polar(1.0, h < kHeads ? angle : 0);
          EXPECT_LT(std::abs(pair(rope.y, i) - pair(rope.x, i) * turn), 1e-14);
        }
        for (int64_t i = rope.rotary_dim; i < rope.head_dim; ++i) {
          EXPECT_EQ(GetElement(rope.y, head + i), GetElement(rope.x, head + i));
        }
      }
    }
  }
}

// An attention factor makes the transpose another matrix than the inverse.
TEST(RopeTest, BackwardIsTheTransposeByComplexStep) {
  const TestContext ctx;
  const RopeYarnScaling scaling = {.factor = 2, .original_positions = 32, .attention_factor = 1.5};
  for (const Layout& layout : {Layout{6}, {6, 4}, {6, 6, true}, {6, 4, true}}) {
    Rope rope(DType::kC128, layout, 2, {.scaling = scaling});
    TestTensor dy(DType::kC128, rope.y->shape()), dx(DType::kC128, rope.y->shape()),
        expected(DType::kF64, rope.y->shape());
    FillNormal(dy, 2);
    CopyConvert(dy, dx);
    ASSERT_TRUE(RopeBackward(ctx, rope.table, rope.heads, kSeqLen, dx).ok());
    ComplexStepGradient(
        rope.x,
        [&] {
          rope.Forward(ctx);
          return WeightedSum(rope.y, dy);
        },
        expected);
    EXPECT_GT(MaxAbs(expected), 0.1);
    EXPECT_LT(RelativeError(dx, expected), 1e-14);
  }
}

TEST(RopeTest, BackwardUndoesForwardAndNormsStay) {
  const TestContext ctx;
  for (const Layout& layout : kLayouts) {
    Rope rope(DType::kF64, layout);
    rope.Forward(ctx);
    const auto squared_norm = [](const Tensor& x) { return WeightedSum(x, x).real(); };
    TestTensor x(DType::kC128, rope.x->shape()), y(DType::kC128, rope.x->shape());
    CopyConvert(rope.x, x);
    CopyConvert(rope.y, y);
    EXPECT_GT(RelativeError(y, x), 0.1);
    EXPECT_NEAR(squared_norm(y), squared_norm(x), 1e-13 * squared_norm(x));
    ASSERT_TRUE(RopeBackward(ctx, rope.table, rope.heads, kSeqLen, rope.y).ok());
    EXPECT_LT(RelativeError(rope.y, rope.x), 1e-15 * 8);
  }
}

TEST(RopeTest, PositionOffsetContinuesASequence) {
  const TestContext ctx;
  Rope whole(DType::kF32, {16}, 1), pieces(DType::kF32, {16}, 1);
  whole.Forward(ctx);
  for (int64_t n = 0; n < kSeqLen; ++n) {
    const Tensor row = pieces.y->Rows(n, n + 1);
    CopyConvert(pieces.x->Rows(n, n + 1), row);
    ASSERT_TRUE(RopeForward(ctx, pieces.table, pieces.heads, 1, n, row).ok());
  }
  EXPECT_TRUE(SameBits(whole.y, pieces.y));
}

// Two documents of a sequence, the second from position 0 on, are two sequences.
TEST(RopeTest, GivenPositionsRotateAsSequencesDo) {
  TestTensor positions(DType::kI32, {kSeqLen});
  for (int64_t n = 0; n < kSeqLen; ++n) positions->data<int32_t>()[n] = n < 4 ? n : n - 4;
  for (const OpSet ops : {OpSet::kAuto, OpSet::kReference}) {
    const TestContext ctx(ops);
    for (const Layout& layout : kLayouts) {
      Rope packed(DType::kF32, layout, 1), apart(DType::kF32, layout, 1);
      for (const bool backward : {false, true}) {
        const auto rotate = [&](int64_t seq_len, const Tensor& x, const Tensor& at) {
          return backward ? RopeBackward(ctx, packed.table, packed.heads, seq_len, x, at)
                          : RopeForward(ctx, packed.table, packed.heads, seq_len, 0, x, at);
        };
        CopyConvert(packed.x, packed.y);
        CopyConvert(packed.x, apart.y);
        ASSERT_EQ(rotate(kSeqLen, packed.y, positions), absl::OkStatus());
        ASSERT_EQ(rotate(4, apart.y->Rows(0, 4), {}), absl::OkStatus());
        ASSERT_EQ(rotate(kSeqLen - 4, apart.y->Rows(4, kSeqLen), {}), absl::OkStatus());
        EXPECT_TRUE(SameBits(packed.y, apart.y));
        EXPECT_FALSE(SameBits(packed.y, packed.x));
      }
    }
  }
}

TEST(RopeTest, AWrongPositionIsNamedAndNothingIsWritten) {
  const TestContext ctx;
  Rope rope(DType::kF32, {6}, 1);
  TestTensor positions(DType::kI32, {kSeqLen});
  for (const int wrong : {-1, 32}) {
    for (int64_t n = 0; n < kSeqLen; ++n) positions->data<int32_t>()[n] = n == 4 ? wrong : 31;
    CopyConvert(rope.x, rope.y);
    const absl::Status status =
        RopeForward(ctx, rope.table, rope.heads, kSeqLen, 0, rope.y, positions);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(),
              "[rope] positions[4] is " + std::to_string(wrong) + ", outside of [0, 32)");
    EXPECT_EQ(RopeBackward(ctx, rope.table, rope.heads, kSeqLen, rope.y, positions), status);
    EXPECT_TRUE(SameBits(rope.y, rope.x));
  }
}

TEST(RopeTest, F32FollowsF64) {
  for (const Layout& layout : kLayouts) {
    for (const int64_t sequences : {0, 1, 5}) {
      Rope f32(DType::kF32, layout, sequences), f64(DType::kF64, layout, sequences);
      f32.Forward(TestContext(), 7);
      f64.Forward(TestContext(), 7);
      // Roundings of x, the angle, two products and their sum, for pairs up to sqrt(2) longer than
      // their largest element.
      EXPECT_LE(RelativeError(f32.y, f64.y), 5 * std::sqrt(2) * 0x1p-24);
    }
  }
}

TEST(RopeTest, TheSameBitsWithAnyNumberOfThreads) {
  for (const Layout& layout : kLayouts) {
    Rope one(DType::kF32, layout, 20), three(DType::kF32, layout, 20);
    one.Forward(TestContext(OpSet::kAuto, 1));
    three.Forward(TestContext(OpSet::kAuto, 3));
    EXPECT_TRUE(SameBits(one.y, three.y));
  }
}

TEST(RopeDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  Rope rope(DType::kF32, {4});
  EXPECT_DEATH((void)RopeForward(ctx, rope.table, {4, 4}, kSeqLen, 0, rope.x),
               "\\[rope\\] x f32\\[12, 12\\], table f64\\[32, 4\\], 4 heads of 4");
  EXPECT_DEATH((void)RopeForward(ctx, rope.table, {2, 2}, kSeqLen, 0, rope.x), "2 heads of 2");
  EXPECT_DEATH((void)RopeForward(ctx, rope.table, {2, 4}, kSeqLen, 27, rope.x), "from position 27");
  EXPECT_DEATH((void)RopeBackward(ctx, rope.table, {2, 4}, 5, rope.x), "sequences of 5");
  TestTensor positions(DType::kI32, {kSeqLen});
  EXPECT_DEATH((void)RopeForward(ctx, rope.table, {2, 4}, kSeqLen, 0, rope.x, positions),
               "positions i32\\[6\\]");
  TestTensor odd(DType::kF64, {4, 3});
  EXPECT_DEATH(RopeTable({}, odd), "table f64\\[4, 3\\]: features go in pairs");
  EXPECT_DEATH(RopeTable({.rotary_dim = 2}, rope.table), "of 4 features, rotary_dim 2");
  const RopeLongScaling scaling = {.short_factors = {1, 1, 1}, .original_positions = 32};
  EXPECT_DEATH(RopeTable({.scaling = scaling}, rope.table), "factors of the scaling");
}

}  // namespace
}  // namespace strake
