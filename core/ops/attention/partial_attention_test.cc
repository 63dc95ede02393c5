// The definition of partial attention, and the op around it.
#include "core/ops/attention/partial_attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/device/op_call.h"
#include "core/memory/activation_arena.h"
#include "core/ops/attention/causal_attention.h"
#include "core/ops/attention/partial_attention_problem.h"
#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ChunkedAttention;
using testing::Chunks;
using testing::ComplexStepGradient;
using testing::FillConstant;
using testing::FillNormal;
using testing::GetElement;
using testing::KeyOrder;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

struct Cut {
  AttentionShape shape;
  Chunks chunks;
  std::vector<int64_t> lengths = {};  // of documents
};

// One chunk; chunks of one token; unequal ones, groups of heads; windows within a chunk, as long as
// one, over some, and such that whole chunks are not seen; scale and cap; documents that end at
// chunks' ends, cross them, and lie within.
const Cut kCuts[] = {{{1, 7, 1, 1, 3}, {7}},
                     {{2, 6, 2, 2, 4}, {1, 2, 3, 4, 5, 6}},
                     {{2, 19, 4, 2, 5}, {5, 6, 13, 19}},
                     {{1, 24, 2, 1, 4, /*window=*/1}, {6, 12, 18, 24}},
                     {{1, 24, 2, 1, 4, 4}, {6, 12, 18, 24}},
                     {{2, 24, 2, 1, 4, 6}, {6, 12, 18, 24}},
                     {{1, 24, 2, 1, 4, 7}, {6, 12, 18, 24}},
                     {{1, 24, 2, 1, 4, 15}, {6, 12, 18, 24}},
                     {{1, 24, 2, 1, 4, int64_t{1} << 60}, {6, 12, 18, 24}},
                     {{1, 12, 2, 1, 4, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
                     {{1, 20, 3, 3, 6, 0, 0.4}, {7, 20}},
                     {{1, 20, 3, 1, 6, 0, 0, 1.25}, {7, 20}},
                     {{2, 20, 4, 2, 6, 8, 0.4, 1.5}, {7, 11, 20}},
                     {{2, 16, 2, 1, 4}, {4, 8, 12, 16}, {4, 8, 4, 16}},
                     {{2, 16, 2, 1, 4}, {4, 8, 12, 16}, {3, 10, 2, 1, 1, 14, 1}},
                     {{1, 16, 2, 2, 4, 3}, {4, 8, 12, 16}, {6, 10}},
                     {{1, 6, 2, 1, 4, 0, 0.5, 2}, {1, 2, 3, 4, 5, 6}, {1, 4, 1}}};

TEST(PartialAttentionTest, ChunksMergeToAllKeys) {
  for (const Cut& cut : kCuts) {
    for (const KeyOrder order : {KeyOrder::kOwnFirst, KeyOrder::kNextFirst}) {
      const TestContext ctx;
      const ChunkedAttention a(DType::kF64, cut.shape, cut.chunks, cut.lengths);
      SCOPED_TRACE(a.ToString());
      TestTensor y(DType::kF64, a.y->shape()), lse(DType::kF64, a.lse->shape()),
          dqkv(DType::kF64, a.dqkv->shape());
      ASSERT_TRUE(CausalAttentionForward(ctx, a.qkv, a.shape, y, lse, a.WholeDocuments()).ok());
      ASSERT_TRUE(
          CausalAttentionBackward(ctx, a.dy, a.qkv, y, lse, a.shape, dqkv, a.WholeDocuments())
              .ok());
      a.Run(ctx, order);
      EXPECT_LT(RelativeError(a.y, y), 1e-12);
      EXPECT_LT(RelativeError(a.lse, lse), 1e-12);
      EXPECT_LT(RelativeError(a.dqkv, dqkv), 1e-12);
      EXPECT_GT(MaxAbs(y), 0.1);
      EXPECT_GT(MaxAbs(dqkv), 0.1);
    }
  }
}

TEST(PartialAttentionTest, GradientsByComplexStep) {
  for (const Cut& cut :
       {Cut{{1, 6, 2, 1, 3}, {2, 4, 6}}, Cut{{2, 5, 4, 2, 2, /*window=*/2, 0.7, 1.5}, {2, 5}},
        Cut{{1, 6, 2, 2, 2}, {2, 4, 6}, {3, 3}}}) {
    const TestContext ctx;
    const ChunkedAttention a(DType::kC128, cut.shape, cut.chunks, cut.lengths);
    SCOPED_TRACE(a.ToString());
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

// Keys behind the queries; keys that the window has left; no keys.
TEST(PartialAttentionTest, QueriesThatSeeNoKeyKeepTheirBits) {
  const AttentionShape shape = {2, 20, 4, 2, 8, /*window=*/3};
  const TokenSpan queries = {4, 10, 5};
  for (const TokenSpan& keys : {TokenSpan{2, 15, 5}, {3, 0, 8}, {0, 12, 0}}) {
    EXPECT_FALSE(SeesAny(shape, queries, keys));
    for (const OpSet ops : {OpSet::kAuto, OpSet::kReference}) {
      const TestContext ctx(ops);
      const ChunkedAttention a(DType::kF32, shape, {20}), b(DType::kF32, shape, {20});
      for (const ChunkedAttention* each : {&a, &b}) {
        FillNormal(each->y_rows, 3);
        FillNormal(each->lse_rows, 4);
        FillNormal(each->dq_rows, 5);
        FillNormal(each->dkv_rows, 6);
      }
      a.Scatter();
      ASSERT_TRUE(a.ForwardCall(ctx, queries, keys, /*merge=*/true).ok());
      EXPECT_TRUE(SameBits(a.y_rows, b.y_rows));
      EXPECT_TRUE(SameBits(a.lse_rows, b.lse_rows));
      ASSERT_TRUE(a.BackwardCall(ctx, queries, keys).ok());
      EXPECT_TRUE(SameBits(a.dq_rows, b.dq_rows));
      EXPECT_TRUE(SameBits(a.dkv_rows, b.dkv_rows));
      ASSERT_TRUE(a.ForwardCall(ctx, queries, keys, /*merge=*/false).ok());
      const int64_t R = a.NumRows(), H = shape.num_heads;
      for (int64_t row = 0; row < shape.batch * R; ++row) {
        const bool within = row % R >= 4 && row % R < 9;
        EXPECT_EQ(MaxAbs(a.y_rows->Rows(row, row + 1)) == 0, within) << row;
        for (int64_t h = 0; h < H; ++h) {
          EXPECT_EQ(GetElement(a.lse_rows, (row / R * H + h) * R + row % R).real() == -INFINITY,
                    within);
        }
      }
    }
  }
}

TEST(PartialAttentionTest, SeesAnyIsTrueIfThereIsAPair) {
  for (const int64_t window : {0, 1, 2, 5, 100}) {
    AttentionShape shape = {1, 1, 1, 1, 1};
    shape.window = window;
    for (int64_t q = 0; q < 6; ++q) {
      for (int64_t k = 0; k < 6; ++k) {
        for (const int64_t queries : {0, 1, 3}) {
          for (const int64_t keys : {0, 1, 2}) {
            bool any = false;
            for (int64_t i = q; i < q + queries; ++i) {
              for (int64_t j = k; j < k + keys; ++j) any |= j <= i && j >= shape.FirstKey(i);
            }
            EXPECT_EQ(SeesAny(shape, {0, q, queries}, {0, k, keys}), any)
                << q << " + " << queries << ", " << k << " + " << keys << ", window " << window;
          }
        }
      }
    }
  }
}

// The pairs of a call, one by one.
double CountPairs(const ChunkedAttention& a, const TokenSpan& queries, const TokenSpan& keys) {
  double pairs = 0;
  for (int64_t b = 0; b < a.shape.batch; ++b) {
    for (int64_t i = queries.position; i < queries.position + queries.count; ++i) {
      int64_t first = a.shape.FirstKey(i);
      if (!a.lengths.empty()) {
        first = std::max(first, i - a.positions->data<int32_t>()[b * a.shape.seq_len + i]);
      }
      for (int64_t j = keys.position; j < keys.position + keys.count; ++j) {
        pairs += j <= i && j >= first;
      }
    }
  }
  return pairs;
}

TEST(PartialAttentionTest, FlopsAreThoseOfThePairs) {
  for (const Cut& cut : kCuts) {
    const ChunkedAttention a(DType::kF32, cut.shape, cut.chunks, cut.lengths);
    SCOPED_TRACE(a.ToString());
    a.ForEachPair(KeyOrder::kNextFirst, [&](const TokenSpan& queries, const TokenSpan& keys, bool) {
      ThreadTeam team(1);
      ActivationArena plan = ActivationArena::DryRun();
      Context ctx(&team, &plan);
      OpRecorder recorder;
      ctx.set_recorder(&recorder);
      ASSERT_TRUE(a.ForwardCall(ctx, queries, keys, /*merge=*/true).ok());
      ASSERT_TRUE(a.BackwardCall(ctx, queries, keys).ok());
      const double products =
          2.0 * a.shape.num_heads * a.shape.head_dim * CountPairs(a, queries, keys);
      ASSERT_EQ(recorder.calls().size(), 2u);
      EXPECT_EQ(recorder.calls()[0].cost.flops, 2 * products);
      EXPECT_EQ(recorder.calls()[1].cost.flops, 5 * products);
    });
  }
}

TEST(PartialAttentionTest, BytesAreThoseOfTheRows) {
  const ChunkedAttention a(DType::kBf16, {2, 20, 4, 2, 8}, {5, 20});
  const TokenSpan queries = a.Queries(1), keys = a.Keys(0);  // 15 and 5
  ThreadTeam team(1);
  ActivationArena plan = ActivationArena::DryRun();
  Context ctx(&team, &plan);
  OpRecorder recorder;
  ctx.set_recorder(&recorder);
  for (const bool merge : {false, true}) {
    ASSERT_TRUE(a.ForwardCall(ctx, queries, keys, merge).ok());
  }
  ASSERT_TRUE(a.BackwardCall(ctx, queries, keys).ok());
  const double q = 2 * 15 * 32 * 2, kv = 2 * 5 * 32 * 2, lse = 2 * 15 * 4 * 4;
  EXPECT_EQ(recorder.calls()[0].cost.bytes, q + kv + 2 * q + lse);
  EXPECT_EQ(recorder.calls()[1].cost.bytes, q + kv + 4 * q + 2 * lse);
  EXPECT_EQ(recorder.calls()[2].cost.bytes, 3 * q + kv + lse + 4 * q + 4 * kv);
}

TEST(PartialAttentionTest, ScratchIsPlanned) {
  const ChunkedAttention a(DType::kF32, {1, 100, 2, 1, 24}, {70, 100});
  ThreadTeam team(2);
  ActivationArena plan = ActivationArena::DryRun();
  const Context dry(&team, &plan);
  a.Forward(dry);
  EXPECT_GT(plan.peak_bytes(), 0u);
  TestContext ctx(OpSet::kAuto, 2);
  a.Forward(ctx);
  EXPECT_EQ(ctx.context().arena().peak_bytes(), plan.peak_bytes());
  a.Backward(dry, KeyOrder::kOwnFirst);
  a.Backward(ctx, KeyOrder::kOwnFirst);
  EXPECT_EQ(ctx.context().arena().peak_bytes(), plan.peak_bytes());
  EXPECT_EQ(plan.used_bytes(), 0u);
  EXPECT_EQ(ctx.context().arena().used_bytes(), 0u);
}

TEST(PartialAttentionDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  const ChunkedAttention a(DType::kBf16, {1, 4, 2, 1, 8}, {4});
  EXPECT_DEATH((void)a.ForwardCall(ctx, {4, 0, 4}, a.Keys(0), false),
               "\\[partial_attention\\].*4 queries from row 4 of 7");
  EXPECT_DEATH((void)a.ForwardCall(ctx, a.Queries(0), {6, 0, 4}, false), "4 keys from row 6 of 9");
  const PartialAttention part = a.Part(a.Queries(0), a.Keys(0));
  EXPECT_DEATH(
      (void)PartialAttentionForward(ctx, a.q_rows, a.kv_rows, part, false, a.y_stored, a.lse_rows),
      "y bf16\\[7, 16\\]");
  EXPECT_DEATH((void)PartialAttentionBackward(ctx, a.dy_rows, a.q_rows, a.kv_rows, a.y_stored,
                                              a.lse_rows, part, a.y_stored, a.dkv_rows),
               "dq bf16\\[7, 16\\]");
}

}  // namespace
}  // namespace strake
