#include "core/ops/attention/causal_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <vector>

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
using testing::SetElement;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

int64_t Tokens(const AttentionShape& s) { return s.batch * s.seq_len; }
int64_t Columns(const AttentionShape& s) { return (s.num_heads + 2 * s.num_kv_heads) * s.head_dim; }

struct Attention {
  Attention(DType dtype, const AttentionShape& shape, double scale = 1)
      : shape(shape),
        qkv(dtype, {Tokens(shape), Columns(shape)}),
        dy(dtype, {Tokens(shape), shape.num_heads * shape.head_dim}),
        y(dtype, {Tokens(shape), shape.num_heads * shape.head_dim}),
        lse(dtype, {shape.batch, shape.num_heads, shape.seq_len}),
        dqkv(dtype, {Tokens(shape), Columns(shape)}) {
    FillNormal(qkv, 1, scale);
    FillNormal(dy, 2);
  }
  void Forward(const Context& ctx) {
    ASSERT_TRUE(CausalAttentionForward(ctx, qkv, shape, y, lse).ok());
  }
  void Run(const Context& ctx) {
    Forward(ctx);
    ASSERT_TRUE(CausalAttentionBackward(ctx, dy, qkv, y, lse, shape, dqkv).ok());
  }
  AttentionShape shape;
  TestTensor qkv, dy, y, lse, dqkv;
};

// Ragged for every block and vector width, one token, one head, groups, long enough for several
// blocks, and empty.
const AttentionShape kShapes[] = {{1, 1, 1, 1, 1},    {2, 1, 3, 1, 4},    {1, 2, 2, 2, 5},
                                  {2, 17, 4, 2, 8},   {1, 64, 2, 1, 64},  {1, 65, 3, 3, 48},
                                  {1, 200, 6, 2, 20}, {3, 129, 2, 2, 33}, {1, 300, 1, 1, 128},
                                  {0, 4, 2, 1, 8},    {2, 0, 2, 1, 8}};

// Windows of one token, of less than a vector, a block, several blocks, all tokens, and more;
// a scale; a cap that bends scores; all of them.
const AttentionShape kOptions[] = {{2, 131, 2, 1, 5, 1},
                                   {1, 150, 6, 2, 20, 3},
                                   {1, 201, 2, 2, 33, 40},
                                   {1, 257, 3, 1, 16, 64},
                                   {2, 300, 2, 1, 24, 129},
                                   {1, 77, 2, 2, 9, 77},
                                   {1, 77, 2, 2, 9, int64_t{1} << 40},
                                   {1, 90, 4, 2, 24, 0, 0.5},
                                   {1, 90, 4, 2, 24, 0, 0, 1.25},
                                   {2, 219, 6, 3, 17, 50, 0.4, 2.5},
                                   {1, 3, 1, 1, 1, 2, 3, 4}};

std::vector<AttentionShape> AllShapes() {
  std::vector<AttentionShape> shapes(std::begin(kShapes), std::end(kShapes));
  shapes.insert(shapes.end(), std::begin(kOptions), std::end(kOptions));
  return shapes;
}

TEST(CausalAttentionTest, OneTokenReadsItsOwnValue) {
  for (const OpSet ops : {OpSet::kAuto, OpSet::kReference}) {
    Attention a(DType::kF32, {3, 1, 4, 2, 6});
    a.Run(TestContext(ops));
    for (int64_t b = 0; b < 3; ++b) {
      for (int64_t h = 0; h < 4; ++h) {
        const float* v = a.qkv->data<float>() + (b * 8 + 6 + h / 2) * 6;
        const float* y = a.y->data<float>() + (b * 4 + h) * 6;
        EXPECT_EQ(std::memcmp(v, y, 6 * sizeof(float)), 0) << "b " << b << ", h " << h;
      }
    }
  }
}

TEST(CausalAttentionTest, EqualScoresGiveTheMean) {
  for (const OpSet ops : {OpSet::kAuto, OpSet::kReference}) {
    const int64_t T = 256, D = 16;
    Attention a(DType::kF32, {1, T, 1, 1, D});
    FillSmallIntegers(a.qkv, 3);
    for (int64_t t = 0; t < T; ++t) {
      for (int64_t d = 0; d < D; ++d) SetElement(a.qkv, t * 3 * D + D + d, 0);
    }
    a.Forward(TestContext(ops));
    double sum = 0;
    for (int64_t t = 0; t < T; ++t) {
      sum += GetElement(a.qkv, t * 3 * D + 2 * D).real();
      // Exact if the count is a power of two, because sums of small integers are.
      if (((t + 1) & t) == 0) {
        EXPECT_EQ(a.y->data<float>()[t * D], sum / (t + 1)) << t;
      }
      EXPECT_NEAR(a.lse->data<float>()[t], std::log(t + 1.0), 1e-6) << t;
    }
    EXPECT_NE(sum, 0);
  }
}

// The last four with a window, a scale, a cap, and all of them.
TEST(CausalAttentionTest, GradientsByComplexStep) {
  for (const AttentionShape& shape : {AttentionShape{2, 5, 4, 2, 3},
                                      {1, 7, 3, 3, 2},
                                      {1, 1, 2, 1, 3},
                                      {1, 7, 2, 1, 3, 3},
                                      {1, 5, 2, 2, 3, 0, 0.3},
                                      {1, 6, 2, 1, 3, 0, 0, 0.8},
                                      {2, 6, 4, 2, 2, 4, 1.7, 2.5}}) {
    const TestContext ctx;
    Attention a(DType::kC128, shape);
    a.Run(ctx);
    TestTensor expected(DType::kF64, a.qkv->shape());
    ComplexStepGradient(
        a.qkv,
        [&] {
          a.Forward(ctx);
          return WeightedSum(a.y, a.dy);
        },
        expected);
    EXPECT_GT(MaxAbs(expected), 0.1);
    EXPECT_LT(RelativeError(a.dqkv, expected), 1e-13);
  }
}

// The largest 2-norm of rows of D among columns [begin, end) of the fused matrix.
double LargestNorm(const Tensor& qkv, int64_t begin, int64_t end, int64_t head_dim) {
  double largest = 0;
  for (int64_t row = 0; row < qkv.dim(0); ++row) {
    for (int64_t at = begin; at < end; at += head_dim) {
      double sum = 0;
      for (int64_t d = 0; d < head_dim; ++d) {
        sum += std::norm(GetElement(qkv, row * qkv.dim(1) + at + d));
      }
      largest = std::max(largest, std::sqrt(sum));
    }
  }
  return largest;
}

// A relative error of p is an absolute error of a score: a sum of D products, and so about sqrt(D)
// roundings of at most the largest score (by Cauchy and Schwarz), plus those of the scale, the
// shift and exp, and 8 of a cap. The sum over keys adds about sqrt(T). The factor 4 is for the
// tail.
double Bound(const Attention& a) {
  const int64_t seq_len = a.shape.seq_len, num_heads = a.shape.num_heads;
  const int64_t num_kv_heads = a.shape.num_kv_heads, head_dim = a.shape.head_dim;
  const int64_t k = num_heads * head_dim, v = k + num_kv_heads * head_dim;
  const double score =
      LargestNorm(a.qkv, 0, k, head_dim) * LargestNorm(a.qkv, k, v, head_dim) * a.shape.Scale();
  const double roundings = std::sqrt(head_dim) + 4 + (a.shape.score_softcap == 0 ? 0 : 8);
  return 4 * 0x1p-24 * (roundings * (1 + score) + std::sqrt(seq_len));
}

void ExpectClose(const Attention& a, const Attention& truth) {
  const double bound = Bound(truth);
  SCOPED_TRACE(a.qkv->ToString() + " of heads of " + std::to_string(a.shape.head_dim));
  EXPECT_LE(RelativeError(a.y, truth.y), bound);
  EXPECT_LE(RelativeError(a.lse, truth.lse) * MaxAbs(truth.lse), bound * (1 + MaxAbs(truth.lse)));
  // Two products in sequence: the rounding of dp adds to that of p.
  EXPECT_LE(RelativeError(a.dqkv, truth.dqkv), 2 * bound);
}

TEST(CausalAttentionTest, F32FollowsF64) {
  for (const AttentionShape& shape : AllShapes()) {
    Attention truth(DType::kF64, shape);
    truth.Run(TestContext());
    for (const OpSet ops : {OpSet::kAuto, OpSet::kReference}) {
      Attention a(DType::kF32, shape);
      a.Run(TestContext(ops));
      ExpectClose(a, truth);
    }
  }
}

TEST(CausalAttentionTest, TilesFollowTheReferenceAtF32) {
  for (const AttentionShape& shape : AllShapes()) {
    Attention tiles(DType::kF32, shape), reference(DType::kF32, shape);
    tiles.Run(TestContext(OpSet::kAuto));
    reference.Run(TestContext(OpSet::kReference));
    ExpectClose(tiles, reference);
  }
}

TEST(CausalAttentionTest, LargeScoresDoNotOverflow) {
  const AttentionShape shape{1, 150, 2, 1, 32};
  Attention a(DType::kF32, shape, 8), truth(DType::kF64, shape, 8);
  a.Run(TestContext());
  truth.Run(TestContext());
  EXPECT_GT(MaxAbs(truth.lse), 100);  // exp would be infinite
  ExpectClose(a, truth);
}

// Changes a token's query, key and value, and nothing else.
void Perturb(const Attention& a, int64_t token) {
  const int64_t columns = a.qkv->dim(1);
  for (int64_t c = 0; c < columns; ++c) SetElement(a.qkv, token * columns + c, 50 - c);
}

TEST(CausalAttentionTest, TheFutureMovesNoBit) {
  const AttentionShape shape{1, 150, 2, 1, 24};
  for (const OpSet ops : {OpSet::kAuto, OpSet::kReference}) {
    for (const int64_t token : {1, 15, 64, 100, 149}) {
      Attention a(DType::kF32, shape), b(DType::kF32, shape);
      Perturb(b, token);
      a.Forward(TestContext(ops));
      b.Forward(TestContext(ops));
      EXPECT_TRUE(SameBits(a.y->Rows(0, token), b.y->Rows(0, token))) << token;
      EXPECT_FALSE(SameBits(a.y->Rows(token, token + 1), b.y->Rows(token, token + 1))) << token;
    }
  }
}

TEST(CausalAttentionTest, EarlierOutputsGiveLaterTokensNoGradient) {
  const AttentionShape shape{1, 150, 2, 1, 24};
  for (const OpSet ops : {OpSet::kAuto, OpSet::kReference}) {
    for (const int64_t token : {1, 15, 64, 100, 149}) {
      Attention a(DType::kF32, shape);
      FillConstant(a.dy->Rows(token, 150), 0);
      a.Run(TestContext(ops));
      EXPECT_EQ(MaxAbs(a.dqkv->Rows(token, 150)), 0) << token;
      EXPECT_GT(MaxAbs(a.dqkv->Rows(token - 1, token)), 0) << token;
    }
  }
}

TEST(CausalAttentionTest, NanStaysNan) {
  Attention a(DType::kF32, {1, 40, 1, 1, 8});
  // The pattern of uninitialised test memory.
  std::memset(a.qkv->data<float>() + 20 * 24, 0xff, sizeof(float));
  a.Forward(TestContext());
  EXPECT_TRUE(std::isnan(a.y->data<float>()[20 * 8]));
  EXPECT_TRUE(std::isnan(a.lse->data<float>()[20]));
  EXPECT_TRUE(std::isfinite(MaxAbs(a.y->Rows(0, 20))));
}

TEST(CausalAttentionTest, AValueThatIsNotFiniteReachesItsTileAtMost) {
  for (const OpSet ops : {OpSet::kAuto, OpSet::kReference}) {
    Attention a(DType::kF32, {1, 150, 1, 1, 8});
    a.qkv->data<float>()[100 * 24 + 16] = NAN;
    a.Forward(TestContext(ops));
    EXPECT_TRUE(std::isnan(a.y->data<float>()[100 * 8]));
    EXPECT_TRUE(std::isnan(a.y->data<float>()[149 * 8]));
    EXPECT_TRUE(std::isfinite(MaxAbs(a.y->Rows(0, 96))));
  }
}

TEST(CausalAttentionTest, TheSameBitsWithAnyNumberOfThreads) {
  // With fewer heads than threads, the backward pass is cut by blocks.
  for (const AttentionShape& shape : {AttentionShape{1, 200, 1, 1, 16},
                                      {1, 300, 4, 2, 24},
                                      {2, 70, 6, 3, 32},
                                      {1, 333, 1, 1, 16, 20},
                                      {1, 333, 1, 1, 16, 64},
                                      {1, 333, 2, 1, 16, 100, 0.3, 2}}) {
    Attention one(DType::kF32, shape);
    one.Run(TestContext(OpSet::kAuto, 1));
    for (const int threads : {2, 3, 5}) {
      Attention many(DType::kF32, shape);
      many.Run(TestContext(OpSet::kAuto, threads));
      EXPECT_TRUE(SameBits(one.y, many.y)) << threads;
      EXPECT_TRUE(SameBits(one.lse, many.lse)) << threads;
      EXPECT_TRUE(SameBits(one.dqkv, many.dqkv)) << threads;
    }
  }
}

size_t PlannedBytes(const AttentionShape& shape) {
  ThreadTeam team(2);
  ActivationArena plan = ActivationArena::DryRun();
  const Context ctx(&team, &plan);
  const Tensor qkv(nullptr, DType::kF32, {Tokens(shape), Columns(shape)});
  const Tensor y(nullptr, DType::kF32, {Tokens(shape), shape.num_heads * shape.head_dim});
  const Tensor lse(nullptr, DType::kF32, {shape.batch, shape.num_heads, shape.seq_len});
  EXPECT_TRUE(CausalAttentionForward(ctx, qkv, shape, y, lse).ok());
  EXPECT_TRUE(CausalAttentionBackward(ctx, y, qkv, y, lse, shape, qkv).ok());
  EXPECT_EQ(plan.used_bytes(), 0u);
  return plan.peak_bytes();
}

TEST(CausalAttentionTest, ScratchIsPlannedAndLinear) {
  const AttentionShape shape{1, 100, 2, 1, 24};
  TestContext ctx(OpSet::kAuto, 2);
  Attention a(DType::kF32, shape);
  a.Run(ctx);
  EXPECT_GT(PlannedBytes(shape), 0u);
  EXPECT_EQ(ctx.context().arena().peak_bytes(), PlannedBytes(shape));
  EXPECT_EQ(ctx.context().arena().used_bytes(), 0u);
  EXPECT_LT(PlannedBytes({1, 8192, 2, 1, 24}), 2 * PlannedBytes({1, 4096, 2, 1, 24}));
}

TEST(CausalAttentionDeathTest, WrongScoresAreNamed) {
  const TestContext ctx;
  const AttentionShape shape{1, 4, 2, 1, 8};
  Attention a(DType::kF32, shape);
  const auto run = [&](int64_t window, double scale, double cap) {
    AttentionShape s = shape;
    s.window = window;
    s.score_scale = scale;
    s.score_softcap = cap;
    (void)CausalAttentionForward(ctx, a.qkv, s, a.y, a.lse);
  };
  EXPECT_DEATH(run(-1, 0, 0), "window -1");
  EXPECT_DEATH(run(0, -0.5, 0), "score_scale -0.5");
  EXPECT_DEATH(run(0, NAN, 0), "score_scale nan");
  EXPECT_DEATH(run(0, 0, -2), "score_softcap -2");
  EXPECT_DEATH(run(0, 0, INFINITY), "score_softcap inf");
}

TEST(CausalAttentionDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  Attention a(DType::kF32, {1, 4, 2, 1, 8});
  const AttentionShape groups{1, 4, 2, 3, 8};
  EXPECT_DEATH((void)CausalAttentionForward(ctx, a.qkv, groups, a.y, a.lse),
               "\\[causal_attention\\] qkv or gradient f32\\[4, 32\\].*num_kv_heads 3");
  const AttentionShape tokens{1, 5, 2, 1, 8};
  EXPECT_DEATH((void)CausalAttentionBackward(ctx, a.dy, a.qkv, a.y, a.lse, tokens, a.dqkv),
               "lse f32\\[1, 2, 4\\].*seq_len 5");
  TestTensor short_y(DType::kF32, {4, 8});
  EXPECT_DEATH((void)CausalAttentionForward(ctx, a.qkv, a.shape, short_y, a.lse),
               "y or gradient f32\\[4, 8\\]");
}

}  // namespace
}  // namespace strake
