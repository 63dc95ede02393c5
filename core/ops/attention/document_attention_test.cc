// Attention within documents: each is as if alone, and nothing passes between them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/device/op_call.h"
#include "core/ops/attention/attention_call.h"
#include "core/ops/attention/causal_attention.h"
#include "core/ops/documents.h"
#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using testing::FillConstant;
using testing::FillNormal;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::SetElement;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

using Lengths = std::vector<int64_t>;

int64_t QkvColumns(const AttentionShape& s) {
  return (s.num_heads + 2 * s.num_kv_heads) * s.head_dim;
}

struct Packed {
  Packed(DType dtype, const AttentionShape& s, const Lengths& lengths)
      : shape(s),
        lengths(lengths),
        qkv(dtype, {s.batch * s.seq_len, QkvColumns(s)}),
        dy(dtype, {s.batch * s.seq_len, s.num_heads * s.head_dim}),
        y(dtype, dy->shape()),
        lse(AccumulationDType(dtype), {s.batch, s.num_heads, s.seq_len}),
        dqkv(dtype, qkv->shape()),
        positions(DType::kI32, {s.batch * s.seq_len}) {
    FillNormal(qkv, 1);
    FillNormal(dy, 2);
    if (lengths.empty()) return;
    EXPECT_EQ(SetDocumentPositions(lengths, s.seq_len, positions), absl::OkStatus());
  }
  Documents documents() const {
    return lengths.empty() ? Documents() : Documents{positions, lengths};
  }
  void Forward(const Context& ctx) {
    ASSERT_EQ(CausalAttentionForward(ctx, qkv, shape, y, lse, documents()), absl::OkStatus());
  }
  void Run(const Context& ctx) {
    Forward(ctx);
    ASSERT_EQ(CausalAttentionBackward(ctx, dy, qkv, y, lse, shape, dqkv, documents()),
              absl::OkStatus());
  }

  AttentionShape shape;
  Lengths lengths;
  TestTensor qkv, dy, y, lse, dqkv, positions;
};

// The definition's: its sums of a document may begin at another address, in other vectors.
constexpr double kF64Bound = 1e-14;

void ExpectSame(const Tensor& packed, const Tensor& alone) {
  if (alone.dtype() == DType::kF64) {
    EXPECT_LE(RelativeError(packed, alone), kF64Bound);
  } else {
    EXPECT_TRUE(SameBits(packed, alone));
  }
}

// Compares tokens [begin, end) of `packed` with the same tokens as a sequence.
void ExpectIsAsAlone(const Context& ctx, const Packed& packed, int64_t begin, int64_t end) {
  AttentionShape shape = packed.shape;
  shape.batch = 1;
  shape.seq_len = end - begin;
  Packed alone(packed.qkv->dtype(), shape, {});
  const auto copy = [&](const Tensor& from, const Tensor& to) {
    std::memcpy(to.raw(), from.Rows(begin, end).raw(), to.num_bytes());
  };
  copy(packed.qkv, alone.qkv);
  copy(packed.dy, alone.dy);
  alone.Run(ctx);
  ExpectSame(packed.y->Rows(begin, end), alone.y);
  ExpectSame(packed.dqkv->Rows(begin, end), alone.dqkv);
  const int64_t seq_len = packed.shape.seq_len, batch = begin / seq_len;
  for (int64_t h = 0; h < shape.num_heads; ++h) {
    const Tensor lse = packed.lse->Reshape({packed.lse->num_elements()});
    const int64_t at = (batch * shape.num_heads + h) * seq_len + begin % seq_len;
    ExpectSame(lse.Rows(at, at + shape.seq_len),
               alone.lse->Reshape({shape.num_heads, shape.seq_len})
                   .Rows(h, h + 1)
                   .Reshape({shape.seq_len}));
  }
}

void ExpectAllAreAsAlone(const Context& ctx, DType dtype, const AttentionShape& shape,
                         const Lengths& lengths) {
  Packed packed(dtype, shape, lengths);
  packed.Run(ctx);
  int64_t begin = 0;
  for (const int64_t length : lengths) {
    SCOPED_TRACE(::testing::Message() << DTypeName(dtype) << ", tokens " << begin << " to "
                                      << begin + length << ", window " << shape.window);
    ExpectIsAsAlone(ctx, packed, begin, begin + length);
    begin += length;
  }
}

// Without options, with windows below, at and above documents, a scale, a cap, and all of them.
std::vector<AttentionShape> Shapes(int64_t batch, int64_t seq_len) {
  return {{batch, seq_len, 2, 1, 8},
          {batch, seq_len, 2, 2, 5, 3},
          {batch, seq_len, 4, 2, 8, 64},
          {batch, seq_len, 1, 1, 9, 70},
          {batch, seq_len, 2, 1, 8, 0, 0.5},
          {batch, seq_len, 2, 1, 8, 0, 0, 2},
          {batch, seq_len, 6, 2, 17, 40, 0.4, 2.5}};
}

constexpr DType kDTypes[] = {DType::kF32, DType::kBf16, DType::kF64};

// Boundaries at, before and after the edges of blocks of 64, and of vectors; whole sequences; one
// token.
TEST(DocumentAttentionTest, EachIsAsAlone) {
  const TestContext ctx;
  const Lengths packings[] = {
      {200, 200},          {64, 64, 72, 128, 72},   {63, 65, 72, 65, 63, 72},    {1, 199, 199, 1},
      {100, 100, 40, 160}, {1, 62, 1, 64, 72, 200}, {17, 100, 3, 80, 8, 16, 176}};
  for (const AttentionShape& shape : Shapes(2, 200)) {
    for (const Lengths& lengths : packings) {
      for (const DType dtype : kDTypes) ExpectAllAreAsAlone(ctx, dtype, shape, lengths);
    }
  }
}

TEST(DocumentAttentionTest, OfEveryLengthIsAsAlone) {
  constexpr int64_t kTokens = 133;
  const TestContext ctx;
  for (int64_t length = 1; length < kTokens; ++length) {
    for (const DType dtype : kDTypes) {
      ExpectAllAreAsAlone(ctx, dtype, {1, kTokens, 2, 1, 4}, {length, kTokens - length});
      ExpectAllAreAsAlone(ctx, dtype, {1, kTokens, 2, 1, 4, 50}, {length, kTokens - length});
    }
  }
}

TEST(DocumentAttentionTest, OfOneTokenGivesItsValue) {
  const AttentionShape shape = {2, 70, 1, 1, 8};
  for (const OpSet ops : {OpSet::kAuto, OpSet::kReference}) {
    Packed a(DType::kF32, shape, Lengths(140, 1));
    a.Run(TestContext(ops));
    for (int64_t t = 0; t < 140; ++t) {
      const float *y = a.y->data<float>() + t * 8, *v = a.qkv->data<float>() + t * 24 + 16;
      const float *dv = a.dqkv->data<float>() + t * 24 + 16, *dy = a.dy->data<float>() + t * 8;
      EXPECT_TRUE(std::equal(y, y + 8, v)) << t;
      EXPECT_TRUE(std::equal(dv, dv + 8, dy)) << t;
    }
  }
}

// Against no documents, whose path it does not take.
TEST(DocumentAttentionTest, OfAllTokensMovesNoBit) {
  for (const OpSet ops : {OpSet::kAuto, OpSet::kReference}) {
    for (const AttentionShape& shape : Shapes(2, 150)) {
      Packed one(DType::kF32, shape, {150, 150}), none(DType::kF32, shape, {});
      one.Run(TestContext(ops));
      none.Run(TestContext(ops));
      EXPECT_TRUE(SameBits(one.y, none.y));
      EXPECT_TRUE(SameBits(one.lse, none.lse));
      EXPECT_TRUE(SameBits(one.dqkv, none.dqkv));
    }
  }
}

TEST(DocumentAttentionTest, GradientsByComplexStep) {
  for (const AttentionShape& shape :
       {AttentionShape{2, 7, 4, 2, 3}, {2, 7, 2, 1, 3, 2, 1.7, 2.5}}) {
    const TestContext ctx;
    Packed a(DType::kC128, shape, {3, 4, 1, 5, 1});
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

// Takes the gradients of the outputs of tokens [100, 163) alone.
TEST(DocumentAttentionTest, GradientsStayInTheirDocument) {
  for (const OpSet ops : {OpSet::kAuto, OpSet::kReference}) {
    for (const AttentionShape& shape : Shapes(1, 200)) {
      Packed a(DType::kF32, shape, {100, 63, 37});
      FillConstant(a.dy->Rows(0, 100), 0);
      FillConstant(a.dy->Rows(163, 200), 0);
      a.Run(TestContext(ops));
      EXPECT_EQ(MaxAbs(a.dqkv->Rows(0, 100)), 0);
      EXPECT_EQ(MaxAbs(a.dqkv->Rows(163, 200)), 0);
      EXPECT_GT(MaxAbs(a.dqkv->Rows(100, 163)), 0.1);
    }
  }
}

// No tile of another document is visited: else 0 times NaN would be NaN.
TEST(DocumentAttentionTest, NanStaysInItsDocument) {
  for (const OpSet ops : {OpSet::kAuto, OpSet::kReference}) {
    for (const AttentionShape& shape : Shapes(1, 200)) {
      Packed a(DType::kF32, shape, {100, 63, 37}), b(DType::kF32, shape, {100, 63, 37});
      for (int64_t i = 100 * QkvColumns(shape); i < 163 * QkvColumns(shape); ++i) {
        SetElement(b.qkv, i, NAN);
      }
      a.Run(TestContext(ops));
      b.Run(TestContext(ops));
      for (const auto& [begin, end] : {std::pair(0, 100), {163, 200}}) {
        EXPECT_TRUE(SameBits(a.y->Rows(begin, end), b.y->Rows(begin, end)));
        EXPECT_TRUE(SameBits(a.dqkv->Rows(begin, end), b.dqkv->Rows(begin, end)));
      }
      EXPECT_FALSE(std::isfinite(MaxAbs(b.y->Rows(100, 101))));
    }
  }
}

TEST(DocumentAttentionTest, TheSameBitsWithAnyNumberOfThreads) {
  // The heads of the first are enough for two threads; those of the second for none.
  for (const Lengths& lengths : {Lengths{100, 100, 90, 10}, {280, 1, 2, 17}}) {
    for (const AttentionShape& shape : {AttentionShape{1, 300, 2, 1, 16}, {1, 300, 1, 1, 9, 70}}) {
      Packed one(DType::kF32, shape, lengths);
      one.Run(TestContext(OpSet::kAuto, 1));
      for (const int threads : {2, 3, 5}) {
        Packed many(DType::kF32, shape, lengths);
        many.Run(TestContext(OpSet::kAuto, threads));
        EXPECT_TRUE(SameBits(one.y, many.y)) << threads;
        EXPECT_TRUE(SameBits(one.lse, many.lse)) << threads;
        EXPECT_TRUE(SameBits(one.dqkv, many.dqkv)) << threads;
      }
    }
  }
}

struct Planned {
  std::vector<OpCall> calls;
  size_t peak_bytes;
};

// What a dry run of both passes records and allocates; the positions have no memory either.
Planned Plan(const AttentionShape& s, const Lengths& lengths) {
  ThreadTeam team(2);
  ActivationArena plan = ActivationArena::DryRun();
  OpRecorder recorder;
  Context ctx(&team, &plan);
  ctx.set_recorder(&recorder);
  const int64_t tokens = s.batch * s.seq_len;
  const Tensor qkv(nullptr, DType::kF32, {tokens, QkvColumns(s)});
  const Tensor y(nullptr, DType::kF32, {tokens, s.num_heads * s.head_dim});
  const Tensor lse(nullptr, DType::kF32, {s.batch, s.num_heads, s.seq_len});
  Documents documents;
  if (!lengths.empty()) documents = {Tensor(nullptr, DType::kI32, {tokens}), lengths};
  EXPECT_EQ(CausalAttentionForward(ctx, qkv, s, y, lse, documents), absl::OkStatus());
  EXPECT_EQ(CausalAttentionBackward(ctx, y, qkv, y, lse, s, qkv, documents), absl::OkStatus());
  return {recorder.calls(), plan.peak_bytes()};
}

TEST(DocumentAttentionTest, FlopsAreTheSumOverDocuments) {
  for (const int64_t window : {0, 1, 3, 5, 100}) {
    const AttentionShape shape = {2, 10, 4, 2, 8, window};
    const Lengths lengths = {3, 1, 6, 10};
    int64_t pairs = 0;
    for (const int64_t length : lengths) {
      for (int64_t i = 0; i < length; ++i) pairs += window == 0 ? i + 1 : std::min(i + 1, window);
    }
    for (const OpCall& call : Plan(shape, lengths).calls) {
      EXPECT_EQ(call.cost.flops, (call.Has("dy") ? 5 : 2) * 2 * 8 * 4 * pairs) << window;
      EXPECT_EQ(call.ShapeOf("positions"), Shape({20}));
      EXPECT_EQ(call.GetInt("num_documents"), 4);
    }
    for (const OpCall& call : Plan(shape, {}).calls) {
      EXPECT_FALSE(call.Has("positions"));
      EXPECT_EQ(call.GetOr("num_documents", -1), -1);
    }
  }
}

TEST(DocumentAttentionTest, TakeNoMoreMemory) {
  const AttentionShape shape = {2, 200, 2, 1, 24};
  EXPECT_EQ(Plan(shape, {1, 199, 200}).peak_bytes, Plan(shape, {}).peak_bytes);
}

std::string Error(const AttentionShape& shape, const Lengths& lengths, int64_t wrong_token = -1) {
  Packed a(DType::kF32, shape, {});
  (void)SetDocumentPositions({shape.seq_len}, shape.seq_len, a.positions);
  if (wrong_token >= 0) a.positions->data<int32_t>()[wrong_token] = 7;
  const Documents documents = {a.positions, lengths};
  const TestContext ctx;
  const absl::Status status = CausalAttentionForward(ctx, a.qkv, shape, a.y, a.lse, documents);
  EXPECT_EQ(CausalAttentionBackward(ctx, a.dy, a.qkv, a.y, a.lse, shape, a.dqkv, documents),
            status);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(std::isnan(MaxAbs(a.y)) || MaxAbs(a.y) > 1e30);  // nothing was written
  return std::string(status.message());
}

TEST(DocumentAttentionTest, WrongDocumentsAreNamed) {
  const AttentionShape shape = {1, 6, 2, 1, 8};
  EXPECT_EQ(Error(shape, {4, 0, 2}), "[causal_attention] document 1 has 0 tokens; it needs one");
  EXPECT_EQ(Error(shape, {2, 5}),
            "[causal_attention] document 1 has 5 tokens from token 2 of a sequence on, and crosses "
            "its end at 6");
  EXPECT_EQ(Error(shape, {2, 3}), "[causal_attention] 2 documents have 5 tokens, the batch has 6");
  EXPECT_EQ(Error(shape, {6}, 4),
            "[causal_attention] positions[4] is 7; the documents' lengths give 4");
  EXPECT_EQ(Error(shape, {4, 2}),
            "[causal_attention] positions[4] is 4; the documents' lengths give 0");
}

TEST(DocumentAttentionDeathTest, WrongTensorsAreNamed) {
  const TestContext ctx;
  const AttentionShape shape = {1, 6, 2, 1, 8};
  const Lengths lengths = {6};
  Packed a(DType::kF32, shape, lengths);
  const auto run = [&](const Tensor& positions) {
    (void)CausalAttentionForward(ctx, a.qkv, shape, a.y, a.lse, {positions, lengths});
  };
  EXPECT_DEATH(run(a.positions->Rows(0, 5)), "positions i32\\[5\\], tokens 6");
  EXPECT_DEATH(run(a.lse->Reshape({12}).Rows(0, 6)), "positions f32\\[6\\]");
  EXPECT_DEATH(run(Tensor()), "1 documents without positions");
}

TEST(DocumentsTest, PositionsBeginAnewInEachDocument) {
  const TestTensor positions(DType::kI32, {8});
  ASSERT_EQ(SetDocumentPositions({3, 1, 4}, 4, positions), absl::OkStatus());
  const int32_t expected[] = {0, 1, 2, 0, 0, 1, 2, 3};
  EXPECT_TRUE(std::equal(expected, expected + 8, positions->data<int32_t>()));
  EXPECT_EQ(SetDocumentPositions({3, 2, 3}, 4, positions).message(),
            "[documents] document 1 has 2 tokens from token 3 of a sequence on, and crosses its "
            "end at 4");
}

}  // namespace
}  // namespace strake
