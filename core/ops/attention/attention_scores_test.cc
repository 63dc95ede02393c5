// Windows, scales and caps of scores: closed forms, and exact independence.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/device/op_call.h"
#include "core/ops/attention/attention_call.h"
#include "core/ops/attention/causal_attention.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

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

constexpr OpSet kBoth[] = {OpSet::kAuto, OpSet::kReference};

struct Attention {
  Attention(DType dtype, const AttentionShape& shape)
      : shape(shape),
        qkv(dtype, {shape.batch * shape.seq_len,
                    (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim}),
        dy(dtype, {shape.batch * shape.seq_len, shape.num_heads * shape.head_dim}),
        y(dtype, dy->shape()),
        lse(dtype, {shape.batch, shape.num_heads, shape.seq_len}),
        dqkv(dtype, qkv->shape()) {
    FillNormal(qkv, 1);
    FillNormal(dy, 2);
  }
  void Run(const Context& ctx) {
    ASSERT_TRUE(CausalAttentionForward(ctx, qkv, shape, y, lse).ok());
    ASSERT_TRUE(CausalAttentionBackward(ctx, dy, qkv, y, lse, shape, dqkv).ok());
  }
  // Elements of token t's key (1) or value (2), of one key/value head.
  void SetToken(int64_t t, int part, float value) {
    const int64_t at = t * qkv->dim(1) + (shape.num_heads + part - 1) * shape.head_dim;
    for (int64_t d = 0; d < shape.head_dim; ++d) SetElement(qkv, at + d, value);
  }
  AttentionShape shape;
  TestTensor qkv, dy, y, lse, dqkv;
};

void ExpectSameBits(const Attention& a, const Attention& b) {
  EXPECT_TRUE(SameBits(a.y, b.y));
  EXPECT_TRUE(SameBits(a.lse, b.lse));
  EXPECT_TRUE(SameBits(a.dqkv, b.dqkv));
}

TEST(AttentionWindowTest, OfOneTokenGivesItsValue) {
  for (const OpSet ops : kBoth) {
    Attention a(DType::kF32, {1, 150, 1, 1, 24, 1});
    a.Run(TestContext(ops));
    for (int64_t t = 0; t < 150; ++t) {
      for (int64_t d = 0; d < 24; ++d) {
        ASSERT_EQ(a.y->data<float>()[t * 24 + d], a.qkv->data<float>()[t * 72 + 48 + d]) << t;
      }
    }
  }
}

TEST(AttentionWindowTest, EqualScoresGiveTheMean) {
  for (const OpSet ops : kBoth) {
    for (const int64_t window : {2, 16, 64, 128}) {
      Attention a(DType::kF32, {1, 300, 1, 1, 8, window, 0.3, 5});
      FillSmallIntegers(a.qkv, 3);
      for (int64_t t = 0; t < 300; ++t) a.SetToken(t, 1, 0);
      a.Run(TestContext(ops));
      for (int64_t t = window - 1; t < 300; ++t) {
        double sum = 0;
        for (int64_t j = t - window + 1; j <= t; ++j) {
          sum += GetElement(a.qkv, j * 24 + 16).real();
        }
        // Exact, because the window is a power of two, and sums of small integers are exact.
        ASSERT_EQ(a.y->data<float>()[t * 8], sum / window) << window << ", " << t;
        EXPECT_NEAR(a.lse->data<float>()[t], std::log(window), 1e-6) << t;
      }
    }
  }
}

TEST(AttentionWindowTest, OfAllTokensMovesNoBit) {
  for (const OpSet ops : kBoth) {
    for (const int64_t window : {150, 151, 1 << 30}) {
      Attention a(DType::kF32, {1, 150, 2, 1, 24}), b(DType::kF32, {1, 150, 2, 1, 24, window});
      a.Run(TestContext(ops));
      b.Run(TestContext(ops));
      ExpectSameBits(a, b);
    }
  }
}

// A token that changes moves the tokens that see it, and no bit of any other.
TEST(AttentionWindowTest, IsWhatATokenDependsOn) {
  for (const OpSet ops : kBoth) {
    for (const int64_t window : {1, 5, 16, 64, 100}) {
      for (const int64_t token : {0, 15, 64, 131}) {
        SCOPED_TRACE(::testing::Message() << "window " << window << ", token " << token);
        const AttentionShape shape = {1, 300, 2, 1, 24, window};
        Attention a(DType::kF32, shape), b(DType::kF32, shape);
        b.SetToken(token, 1, 3);
        b.SetToken(token, 2, -7);
        a.Run(TestContext(ops));
        b.Run(TestContext(ops));
        for (int64_t t = 0; t < 300; ++t) {
          const bool sees = token <= t && t < token + window;
          ASSERT_EQ(SameBits(a.y->Rows(t, t + 1), b.y->Rows(t, t + 1)), !sees) << t;
        }
      }
    }
  }
}

// Outputs from `token` on give gradients to the tokens that they see, and 0 to all others.
TEST(AttentionWindowTest, IsWhereGradientsGo) {
  for (const OpSet ops : kBoth) {
    for (const int64_t window : {1, 5, 16, 64, 100}) {
      for (const int64_t token : {120, 127, 128, 131}) {
        SCOPED_TRACE(::testing::Message() << "window " << window << ", token " << token);
        Attention a(DType::kF32, {1, 300, 2, 1, 24, window, 0, 2});
        FillConstant(a.dy->Rows(0, token), 0);
        a.Run(TestContext(ops));
        EXPECT_EQ(MaxAbs(a.dqkv->Rows(0, token - window + 1)), 0);
        EXPECT_GT(MaxAbs(a.dqkv->Rows(token - window + 1, token - window + 2)), 0);
      }
    }
  }
}

// Blocks that no query of a block sees are not read: else 0 times NaN would be NaN.
TEST(AttentionWindowTest, NanReachesNoOtherBlock) {
  constexpr int64_t kBlock = 64, kToken = 130, kTokens = 400;
  for (const OpSet ops : kBoth) {
    for (const int64_t window : {1, 20, 64, 100}) {
      Attention a(DType::kF32, {1, kTokens, 2, 1, 24, window});
      a.SetToken(kToken, 1, NAN);
      a.SetToken(kToken, 2, NAN);
      a.Run(TestContext(ops));
      EXPECT_FALSE(std::isfinite(MaxAbs(a.y->Rows(kToken, kToken + 1)))) << window;
      const int64_t last = kToken + window - 1;
      EXPECT_FALSE(std::isfinite(MaxAbs(a.y->Rows(last, last + 1)))) << window;
      const int64_t first = kToken / kBlock * kBlock, end = last / kBlock * kBlock + kBlock;
      EXPECT_TRUE(std::isfinite(MaxAbs(a.y->Rows(0, first)))) << window;
      EXPECT_TRUE(std::isfinite(MaxAbs(a.y->Rows(end, kTokens)))) << window;
      // A block of gradients of keys also has those of the queries that see it.
      const int64_t tail = end + kBlock * ((window + kBlock - 1) / kBlock);
      EXPECT_TRUE(std::isfinite(MaxAbs(a.dqkv->Rows(tail, kTokens)))) << window;
    }
  }
}

TEST(AttentionScaleTest, IsAFactorOfTheQueries) {
  for (const OpSet ops : kBoth) {
    const AttentionShape shape = {1, 90, 2, 1, 16, 20};
    Attention a(DType::kF32, shape), b(DType::kF32, shape);
    a.shape.score_scale = 2 / std::sqrt(16.0);
    for (int64_t t = 0; t < 90; ++t) {
      for (int64_t c = 0; c < 32; ++c) {
        SetElement(b.qkv, t * 64 + c, 2.0 * GetElement(b.qkv, t * 64 + c));
      }
    }
    a.Run(TestContext(ops));
    b.Run(TestContext(ops));
    EXPECT_TRUE(SameBits(a.y, b.y));  // the factor is a power of two
    EXPECT_TRUE(SameBits(a.lse, b.lse));
  }
}

TEST(AttentionCapTest, BoundsScores) {
  for (const OpSet ops : kBoth) {
    constexpr double kCap = 0.25;
    Attention a(DType::kF32, {1, 200, 2, 1, 16, 64, 3, kCap});
    a.Run(TestContext(ops));
    for (int64_t t = 0; t < 200; ++t) {
      const double keys = std::log(std::min<int64_t>(t + 1, 64));
      EXPECT_NEAR(a.lse->data<float>()[t], keys, kCap + 1e-6) << t;
    }
    EXPECT_GT(std::abs(a.lse->data<float>()[0]), kCap / 2);
  }
}

// c tanh(s / c) = s - s^3 / (3 c^2) + ...: with scores below 100, the cap below moves them by less
// than 1e-12 of the result.
TEST(AttentionCapTest, FarAboveScoresChangesLittle) {
  const AttentionShape shape = {1, 40, 2, 1, 16};
  Attention a(DType::kF64, shape), b(DType::kF64, shape);
  b.shape.score_softcap = 1e9;
  a.Run(TestContext());
  b.Run(TestContext());
  EXPECT_LT(RelativeError(b.y, a.y), 1e-12);
  EXPECT_LT(RelativeError(b.dqkv, a.dqkv), 1e-12);
  EXPECT_GT(MaxAbs(a.dqkv), 0.1);
}

TEST(AttentionShapeTest, CountsThePairsThatAreSeen) {
  for (const int64_t tokens : {0, 1, 2, 7, 64}) {
    for (const int64_t window : {0, 1, 2, 6, 7, 8, 100}) {
      const AttentionShape shape = {1, tokens, 1, 1, 1, window};
      int64_t pairs = 0;
      for (int64_t i = 0; i < tokens; ++i) {
        for (int64_t j = 0; j <= i; ++j) {
          const bool seen = window == 0 || j > i - window;
          EXPECT_EQ(j >= shape.FirstKey(i), seen) << i << ", " << j;
          pairs += seen;
        }
      }
      EXPECT_EQ(shape.NumPairs(), pairs) << tokens << " tokens, window " << window;
    }
  }
}

std::vector<OpCall> Calls(const AttentionShape& shape) {
  ThreadTeam team(1);
  ActivationArena plan = ActivationArena::DryRun();
  OpRecorder recorder;
  Context ctx(&team, &plan);
  ctx.set_recorder(&recorder);
  const Tensor qkv(nullptr, DType::kF32, {10, 4 * 8}), y(nullptr, DType::kF32, {10, 2 * 8});
  const Tensor lse(nullptr, DType::kF32, {1, 2, 10});
  EXPECT_TRUE(CausalAttentionForward(ctx, qkv, shape, y, lse).ok());
  EXPECT_TRUE(CausalAttentionBackward(ctx, y, qkv, y, lse, shape, qkv).ok());
  return recorder.calls();
}

TEST(AttentionCallTest, RecordsWhatIsSetAndTheWorkThatIsSeen) {
  const AttentionShape shape = {1, 10, 2, 1, 8, 3, 0.5, 20};
  for (const OpCall& call : Calls(shape)) {
    const AttentionShape read = GetAttentionShape(call);
    EXPECT_EQ(read.window, 3);
    EXPECT_EQ(read.score_scale, 0.5);
    EXPECT_EQ(read.score_softcap, 20);
    EXPECT_EQ(read.seq_len, 10);
    // 1 + 2 + 8 * 3 pairs; a product is 2 D FLOPs for each pair and head.
    EXPECT_EQ(call.cost.flops, (call.Has("dy") ? 5 : 2) * 2 * 8 * 2 * 27);
  }
  for (const OpCall& call : Calls({1, 10, 2, 1, 8})) {
    EXPECT_EQ(call.attributes.size(), 5) << call.ToString();
    EXPECT_EQ(call.cost.flops, (call.Has("dy") ? 5 : 2) * 2 * 8 * 2 * 55);
    EXPECT_EQ(GetAttentionShape(call).window, 0);
  }
}

}  // namespace
}  // namespace strake
