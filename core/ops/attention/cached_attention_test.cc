#include "core/ops/attention/cached_attention.h"

#include <algorithm>
#include <cmath>

#include "core/ops/attention/causal_attention.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::FillNormal;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;

int64_t Columns(const AttentionShape& s) { return (s.num_heads + 2 * s.num_kv_heads) * s.head_dim; }

struct Cached {
  Cached(DType dtype, const AttentionShape& shape, int64_t cache_rows)
      : shape(shape),
        qkv(dtype, {shape.seq_len, Columns(shape)}),
        k_cache(dtype, {cache_rows, shape.num_kv_heads * shape.head_dim}),
        v_cache(dtype, {cache_rows, shape.num_kv_heads * shape.head_dim}),
        y(dtype, {shape.seq_len, shape.num_heads * shape.head_dim}) {
    FillNormal(qkv, 1);
  }

  // Computes all tokens, `chunk` at a time. Rows of the cache after them hold NaN throughout.
  void Run(const Context& ctx, int64_t chunk) {
    for (int64_t past = 0; past < shape.seq_len; past += chunk) {
      const int64_t end = std::min(past + chunk, shape.seq_len);
      AttentionShape part = shape;
      part.seq_len = end - past;
      ASSERT_TRUE(CachedAttentionForward(ctx, qkv->Rows(past, end), part, past, k_cache, v_cache,
                                         y->Rows(past, end))
                      .ok());
    }
  }

  // The result of causal_attention for the same tokens.
  void ExpectedOutput(const Context& ctx, const Tensor& expected) const {
    TestTensor lse(qkv->dtype(), {1, shape.num_heads, shape.seq_len});
    ASSERT_TRUE(CausalAttentionForward(ctx, qkv, shape, expected, lse).ok());
  }

  AttentionShape shape;
  TestTensor qkv, k_cache, v_cache, y;
};

const AttentionShape kShapes[] = {{1, 1, 1, 1, 3},
                                  {1, 9, 4, 2, 5},
                                  {1, 70, 3, 3, 16},
                                  {1, 110, 8, 2, 20},
                                  {1, 9, 4, 2, 5, 1},
                                  {1, 110, 4, 2, 20, 7},
                                  {1, 150, 3, 3, 16, 64},
                                  {1, 50, 4, 2, 9, 0, 0.3},
                                  {1, 50, 4, 1, 9, 0, 0, 1.5},
                                  {1, 133, 8, 2, 20, 31, 0.4, 2}};

TEST(CachedAttentionTest, ReferenceFollowsCausalAttentionInAnyChunks) {
  const TestContext ctx(OpSet::kReference);
  for (const AttentionShape& shape : kShapes) {
    for (const DType dtype : {DType::kF32, DType::kF64, DType::kC128}) {
      for (const int64_t chunk : {1, 7, 64}) {
        Cached cached(dtype, shape, shape.seq_len + 3);
        TestTensor expected(dtype, cached.y->shape());
        cached.Run(ctx, chunk);
        cached.ExpectedOutput(ctx, expected);
        EXPECT_GT(MaxAbs(expected), 0.1);
        // Rows and columns of the cache have other strides than those of qkv, and so other
        // alignments, which change the order of sums.
        EXPECT_LE(RelativeError(cached.y, expected), 16 * testing::UnitRoundoff(dtype));
      }
    }
  }
}

TEST(CachedAttentionTest, PrefillGivesTheBitsOfCausalAttention) {
  const TestContext ctx;
  for (const AttentionShape& shape :
       {AttentionShape{1, 70, 3, 3, 16}, {1, 150, 8, 2, 20}, {1, 150, 8, 2, 20, 40, 0.4, 2}}) {
    Cached cached(DType::kF32, shape, shape.seq_len + 3);
    TestTensor expected(DType::kF32, cached.y->shape());
    cached.Run(ctx, shape.seq_len);
    cached.ExpectedOutput(ctx, expected);
    EXPECT_TRUE(SameBits(cached.y, expected));
  }
}

TEST(CachedAttentionTest, F32FollowsF64InAnyChunks) {
  for (const AttentionShape& shape : kShapes) {
    TestTensor expected(DType::kF64, {shape.seq_len, shape.num_heads * shape.head_dim});
    Cached(DType::kF64, shape, shape.seq_len).ExpectedOutput(TestContext(), expected);
    for (const int64_t chunk : {1, 7, 13, 64}) {
      Cached cached(DType::kF32, shape, shape.seq_len + 3);
      cached.Run(TestContext(), chunk);
      // Scores of unit normal features have unit size; the largest products of norms here are about
      // 8. The bound has their roundings, those of exp, of a cap and of the sum over keys, and a
      // factor 4 for the tail.
      const double roundings = std::sqrt(shape.head_dim) + 4 + (shape.score_softcap == 0 ? 0 : 8);
      const double bound = 4 * 0x1p-24 * (roundings * 9 + std::sqrt(shape.seq_len));
      EXPECT_LE(RelativeError(cached.y, expected), bound) << chunk << " at a time";
    }
  }
}

TEST(CachedAttentionTest, AppendsKeysAndValuesAndTouchesNothingElse) {
  const AttentionShape shape{1, 10, 4, 2, 3};
  Cached cached(DType::kF32, shape, 14);
  FillConstant(cached.k_cache, 7);
  FillConstant(cached.v_cache, 8);
  ASSERT_TRUE(CachedAttentionForward(TestContext(), cached.qkv, shape, 2, cached.k_cache,
                                     cached.v_cache, cached.y)
                  .ok());
  for (int64_t row = 0; row < 14; ++row) {
    for (int64_t c = 0; c < 6; ++c) {
      const bool written = row >= 2 && row < 12;
      const float* qkv = cached.qkv->data<float>() + (row - 2) * 24 + 12 + c;
      EXPECT_EQ(cached.k_cache->data<float>()[row * 6 + c], written ? qkv[0] : 7);
      EXPECT_EQ(cached.v_cache->data<float>()[row * 6 + c], written ? qkv[6] : 8);
    }
  }
}

TEST(CachedAttentionTest, TheSameBitsWithAnyNumberOfThreads) {
  for (const int64_t chunk : {1, 50}) {
    Cached one(DType::kF32, {1, 150, 8, 2, 20}, 150), three(DType::kF32, {1, 150, 8, 2, 20}, 150);
    one.Run(TestContext(OpSet::kAuto, 1), chunk);
    three.Run(TestContext(OpSet::kAuto, 3), chunk);
    EXPECT_TRUE(SameBits(one.y, three.y));
  }
}

// A few tokens read the window alone; tiles, the blocks of 64 that the window begins in.
TEST(CachedAttentionTest, KeysBeforeTheWindowAreNotRead) {
  constexpr int64_t kPast = 300, kWindow = 50;
  for (const OpSet ops : {OpSet::kAuto, OpSet::kReference}) {
    for (const int64_t tokens : {1, 3, 70}) {
      const int64_t first = kPast - kWindow + 1, unread = tokens < 8 ? first : first / 64 * 64;
      const AttentionShape shape = {1, tokens, 4, 2, 12, kWindow, 0, 3};
      Cached a(DType::kF32, shape, kPast + tokens), b(DType::kF32, shape, kPast + tokens);
      for (Cached* each : {&a, &b}) {
        FillNormal(each->k_cache, 3);
        FillNormal(each->v_cache, 4);
      }
      FillConstant(b.k_cache->Rows(0, unread), NAN);
      FillConstant(b.v_cache->Rows(0, unread), NAN);
      const auto run = [&](Cached& x) {
        ASSERT_TRUE(
            CachedAttentionForward(TestContext(ops), x.qkv, shape, kPast, x.k_cache, x.v_cache, x.y)
                .ok());
      };
      run(a);
      run(b);
      EXPECT_TRUE(SameBits(a.y, b.y)) << tokens;
      // The first key of the window counts.
      FillConstant(b.k_cache->Rows(first, first + 1), 5);
      run(b);
      EXPECT_FALSE(SameBits(a.y->Rows(0, 1), b.y->Rows(0, 1))) << tokens;
    }
  }
}

TEST(CachedAttentionTest, NoTokens) {
  const AttentionShape shape{1, 0, 4, 2, 3};
  Cached cached(DType::kF32, shape, 4);
  EXPECT_TRUE(CachedAttentionForward(TestContext(), cached.qkv, shape, 4, cached.k_cache,
                                     cached.v_cache, cached.y)
                  .ok());
}

TEST(CachedAttentionDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  Cached cached(DType::kF32, {1, 4, 2, 1, 8}, 6);
  EXPECT_DEATH((void)CachedAttentionForward(ctx, cached.qkv, cached.shape, 3, cached.k_cache,
                                            cached.v_cache, cached.y),
               "\\[cached_attention\\] qkv f32\\[4, 32\\], k_cache f32\\[6, 8\\].*past 3");
  AttentionShape two = cached.shape;
  two.batch = 2;
  EXPECT_DEATH((void)CachedAttentionForward(ctx, cached.qkv, two, 0, cached.k_cache, cached.v_cache,
                                            cached.y),
               "batch 2");
  AttentionShape window = cached.shape;
  window.window = -3;
  EXPECT_DEATH((void)CachedAttentionForward(ctx, cached.qkv, window, 0, cached.k_cache,
                                            cached.v_cache, cached.y),
               "window -3");
}

}  // namespace
}  // namespace strake
