// The CPU's kernels of partial attention.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/ops/attention/causal_attention.h"
#include "core/ops/attention/partial_attention.h"
#include "core/ops/attention/partial_attention_problem.h"
#include "core/ops/cpu/isa.h"
#include "core/testing/attention_tolerance.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::AttentionTolerance;
using testing::ChunkedAttention;
using testing::Chunks;
using testing::CopyConvert;
using testing::ExpectFollowsF64;
using testing::FillConstant;
using testing::KeyOrder;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;

struct KernelCut {
  AttentionShape shape;
  Chunks chunks;
  std::vector<int64_t> lengths = {};
};

// Chunks of whole blocks, of parts of vectors, and of one token; windows below a vector, a block,
// several blocks, and such that whole chunks are not seen, or by some of the queries; a scale and a
// cap; documents that cross chunks, end at them, and are many in one.
const KernelCut kKernelCuts[] = {
    {{1, 256, 2, 1, 32}, {64, 128, 192, 256}},
    {{2, 150, 4, 2, 33}, {37, 75, 112, 150}},
    {{1, 9, 2, 2, 5}, {1, 2, 3, 4, 5, 6, 7, 8, 9}},
    {{1, 300, 3, 3, 17}, {1, 2, 290, 300}},
    {{1, 300, 2, 1, 16, /*window=*/1}, {75, 150, 225, 300}},
    {{1, 300, 2, 1, 16, 11}, {75, 150, 225, 300}},
    {{1, 300, 2, 1, 24, 75}, {75, 150, 225, 300}},
    {{2, 300, 2, 1, 24, 100}, {75, 150, 225, 300}},
    {{1, 300, 2, 1, 24, int64_t{1} << 40}, {150, 300}},
    {{1, 40, 2, 1, 8, 3}, {5, 10, 15, 20, 25, 30, 35, 40}},
    {{1, 131, 2, 1, 40, 0, 0.4, 2}, {65, 131}},
    {{2, 219, 6, 3, 17, 50, 0.4, 2.5}, {55, 110, 165, 219}},
    {{2, 160, 2, 1, 16}, {40, 80, 120, 160}, {40, 80, 40, 13, 99, 1, 1, 46}},
    {{1, 260, 4, 2, 20, 30}, {65, 130, 195, 260}, {5, 1, 70, 100, 84}}};

TEST(PartialAttentionKernelTest, FollowsF64InAnySplit) {
  for (const KernelCut& cut : kKernelCuts) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      for (const KeyOrder order : {KeyOrder::kOwnFirst, KeyOrder::kNextFirst}) {
        const ChunkedAttention a(dtype, cut.shape, cut.chunks, cut.lengths);
        SCOPED_TRACE(a.ToString());
        a.Run(TestContext(), order);
        ExpectFollowsF64(a);
      }
    }
  }
}

TEST(PartialAttentionKernelTest, FollowsF64WithSmallerVectors) {
  const cpu::ScopedIsa isa(cpu::Isa::kAvx2);
  for (const KernelCut& cut : kKernelCuts) {
    const ChunkedAttention a(DType::kF32, cut.shape, cut.chunks, cut.lengths);
    SCOPED_TRACE(a.ToString());
    a.Run(TestContext());
    ExpectFollowsF64(a);
  }
}

// Few heads, so that the backward pass is cut by blocks.
TEST(PartialAttentionKernelTest, TheSameBitsWithAnyNumberOfThreads) {
  for (const KernelCut& cut : {kKernelCuts[0],
                               KernelCut{{1, 400, 1, 1, 16}, {200, 400}},
                               {{1, 400, 1, 1, 16, 130}, {90, 200, 400}},
                               {{1, 400, 2, 1, 16}, {200, 400}, {150, 7, 243}}}) {
    const ChunkedAttention one(DType::kF32, cut.shape, cut.chunks, cut.lengths);
    SCOPED_TRACE(one.ToString());
    one.Run(TestContext(OpSet::kAuto, 1));
    for (const int threads : {2, 3, 5}) {
      const ChunkedAttention many(DType::kF32, cut.shape, cut.chunks, cut.lengths);
      many.Run(TestContext(OpSet::kAuto, threads));
      EXPECT_TRUE(SameBits(one.y, many.y)) << threads;
      EXPECT_TRUE(SameBits(one.lse, many.lse)) << threads;
      EXPECT_TRUE(SameBits(one.dqkv, many.dqkv)) << threads;
    }
  }
}

// The contract of partial_attention.h. Chunks of queries begin at multiples of 64, as documents do,
// and the last ones end within a vector.
TEST(PartialAttentionKernelTest, AllKeysAtOnceGiveTheBitsOfCausalAttention) {
  for (const KernelCut& cut : {KernelCut{{2, 300, 4, 2, 40}, {64, 192, 300}},
                               KernelCut{{1, 203, 2, 2, 17}, {128, 203}},
                               {{1, 450, 2, 1, 24, /*window=*/10}, {64, 256, 450}},
                               {{1, 450, 2, 1, 24, 200, 0.3, 2}, {64, 256, 450}},
                               {{2, 320, 2, 1, 16}, {64, 192, 320}, {128, 192, 64, 64, 192}},
                               {{1, 449, 2, 1, 16, 70}, {128, 320, 449}, {64, 128, 64, 193}}}) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      const TestContext ctx;
      const ChunkedAttention a(dtype, cut.shape, cut.chunks, cut.lengths);
      SCOPED_TRACE(a.ToString());
      const TestTensor y(dtype, a.y->shape()), lse(DType::kF32, a.lse->shape());
      ASSERT_TRUE(CausalAttentionForward(ctx, a.qkv, a.shape, y, lse, a.WholeDocuments()).ok());
      a.Scatter();
      for (int chunk = 0; chunk < a.num_chunks(); ++chunk) {
        ASSERT_TRUE(a.ForwardCall(ctx, a.Queries(chunk), a.KeysAt(0, a.chunks[chunk]),
                                  /*merge=*/false)
                        .ok());
      }
      a.GatherOutputs();
      const TestTensor rounded(dtype, a.y->shape());
      CopyConvert(a.y, rounded);
      EXPECT_TRUE(SameBits(rounded, y));
      EXPECT_TRUE(SameBits(a.lse, lse));
    }
  }
}

// Rows of no chunk begin as NaN, so reading one shows too.
TEST(PartialAttentionKernelTest, WritesNoOtherRows) {
  const ChunkedAttention a(DType::kF32, {2, 100, 2, 1, 9}, {30, 100}),
      b(DType::kF32, {2, 100, 2, 1, 9}, {30, 100});
  a.Run(TestContext());
  FillConstant(b.dq_rows, 0);
  FillConstant(b.dkv_rows, 0);
  const int64_t R = a.NumRows(), S = a.NumKeys();
  for (const int64_t sequence : {0, 1}) {
    for (const int64_t row : {int64_t{0}, int64_t{1}, R - 1}) {
      const int64_t at = sequence * R + row;
      EXPECT_TRUE(SameBits(a.y_rows->Rows(at, at + 1), b.y_rows->Rows(at, at + 1))) << at;
      EXPECT_TRUE(SameBits(a.dq_rows->Rows(at, at + 1), b.dq_rows->Rows(at, at + 1))) << at;
      for (const int64_t h : {0, 1}) {
        EXPECT_TRUE(std::isnan(a.lse_rows->data<float>()[(sequence * 2 + h) * R + row])) << at;
      }
    }
    for (const int64_t row : {int64_t{0}, int64_t{1}, S - 3, S - 2, S - 1}) {
      const int64_t at = sequence * S + row;
      EXPECT_TRUE(SameBits(a.dkv_rows->Rows(at, at + 1), b.dkv_rows->Rows(at, at + 1))) << at;
    }
  }
}

// The keys of one call have scores of which exp is 0 or infinite, as against the other's.
TEST(PartialAttentionKernelTest, LargeDifferencesOfCallsDoNotOverflow) {
  for (const float factor : {-60.f, 60.f}) {
    const ChunkedAttention a(DType::kF32, {1, 90, 1, 1, 16}, {40, 90});
    for (int64_t token = 0; token < 90; ++token) {
      float* const row = a.qkv->data<float>() + token * 48;
      std::fill(row, row + 16, 1.f);
      std::fill(row + 16, row + 32, token < 40 ? factor : 0.f);
    }
    a.Run(TestContext());
    EXPECT_GT(MaxAbs(a.lse), factor > 0 ? 200 : 3);
    EXPECT_TRUE(std::isfinite(MaxAbs(a.dqkv)));
    TestTensor qkv(DType::kF64, a.qkv->shape()), y(DType::kF64, a.y->shape()),
        lse(DType::kF64, a.lse->shape());
    CopyConvert(a.qkv, qkv);
    ASSERT_TRUE(CausalAttentionForward(TestContext(), qkv, a.shape, y, lse).ok());
    // Scores of 16 equal products have no errors but those of the scale.
    EXPECT_LE(RelativeError(a.y, y), AttentionTolerance(16, 90));
    EXPECT_LE(RelativeError(a.lse, lse), AttentionTolerance(16, 90));
  }
}

}  // namespace
}  // namespace strake
