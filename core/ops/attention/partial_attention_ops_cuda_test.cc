// Partial attention on a GPU.
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "core/ops/attention/partial_attention.h"
#include "core/ops/attention/partial_attention_problem.h"
#include "core/ops/documents.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ChunkedAttention;
using testing::Chunks;
using testing::CopyConvert;
using testing::CudaDryRunPeakBytes;
using testing::CudaDryRunTensor;
using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::ExpectFollowsF64;
using testing::FillConstant;
using testing::FillNormal;
using testing::KeyOrder;
using testing::SameBits;
using testing::TestTensor;

void CopyBack(const CudaTestTensor& from, const Tensor& to) { CopyConvert(from.ToHost(), to); }

// The calls of a ChunkedAttention, on the GPU.
void RunOnCuda(const ChunkedAttention& a, KeyOrder order) {
  const CudaTestContext ctx;
  a.Scatter();
  const CudaTestTensor qkv(a.q_rows), kv(a.kv_rows), dy(a.dy_rows), y(a.y_rows), lse(a.lse_rows),
      positions(a.position_rows);
  const Documents documents = a.lengths.empty() ? Documents() : Documents{positions, a.lengths};
  a.ForEachPair(order, [&](const TokenSpan& queries, const TokenSpan& keys, bool first) {
    ASSERT_EQ(
        PartialAttentionForward(ctx, qkv, kv, a.Part(queries, keys), !first, y, lse, documents),
        absl::OkStatus());
  });
  CopyBack(y, a.y_rows);
  CopyBack(lse, a.lse_rows);
  a.GatherOutputs();
  CopyConvert(a.y_rows, a.y_stored);
  FillConstant(a.dq_rows, 0);
  FillConstant(a.dkv_rows, 0);
  const CudaTestTensor stored(a.y_stored), dq(a.dq_rows), dkv(a.dkv_rows);
  a.ForEachPair(order, [&](const TokenSpan& queries, const TokenSpan& keys, bool) {
    ASSERT_EQ(PartialAttentionBackward(ctx, dy, qkv, kv, stored, lse, a.Part(queries, keys), dq,
                                       dkv, documents),
              absl::OkStatus());
  });
  CopyBack(dq, a.dq_rows);
  CopyBack(dkv, a.dkv_rows);
  a.GatherGradients();
}

struct CudaCut {
  AttentionShape shape;
  Chunks chunks;
  std::vector<int64_t> lengths = {};
};

// Several tiles, chunks that begin and end within them, chunks of one token; padded heads; windows
// that leave out chunks; a cap; documents that cross chunks.
TEST(PartialAttentionOnCudaTest, FollowsF64) {
  for (const CudaCut& cut :
       {CudaCut{{1, 150, 2, 1, 8}, {64, 150}}, CudaCut{{2, 19, 4, 2, 5}, {5, 6, 13, 19}},
        CudaCut{{1, 6, 1, 1, 67}, {1, 2, 3, 4, 5, 6}}, CudaCut{{1, 40, 1, 1, 131}, {33, 40}},
        CudaCut{{1, 100, 2, 1, 8, /*window=*/11}, {25, 50, 75, 100}},
        CudaCut{{1, 100, 2, 1, 8, 70}, {10, 80, 100}},
        CudaCut{{2, 30, 2, 1, 16, 4, 0.5, 3}, {7, 15, 22, 30}},
        CudaCut{{2, 80, 2, 1, 8}, {20, 40, 60, 80}, {20, 41, 19, 13, 1, 1, 65}},
        CudaCut{{1, 80, 2, 2, 8, 9}, {20, 40, 80}, {30, 50}}}) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      for (const KeyOrder order : {KeyOrder::kOwnFirst, KeyOrder::kNextFirst}) {
        const ChunkedAttention a(dtype, cut.shape, cut.chunks, cut.lengths);
        SCOPED_TRACE(a.ToString());
        RunOnCuda(a, order);
        ExpectFollowsF64(a);
      }
    }
  }
}

TEST(PartialAttentionOnCudaTest, QueriesThatSeeNoKeyKeepTheirBits) {
  const AttentionShape shape = {2, 20, 4, 2, 8, /*window=*/3};
  const TokenSpan queries = {4, 10, 5};
  for (const TokenSpan& keys : {TokenSpan{2, 15, 5}, {3, 0, 8}, {0, 12, 0}}) {
    const CudaTestContext ctx;
    const ChunkedAttention a(DType::kF32, shape, {20});
    a.Scatter();
    for (const TestTensor* each : {&a.y_rows, &a.lse_rows, &a.dq_rows, &a.dkv_rows}) {
      FillNormal(*each, 3);
    }
    FillNormal(a.y_stored, 4);
    const CudaTestTensor qkv(a.q_rows), kv(a.kv_rows), dy(a.dy_rows), y(a.y_rows), lse(a.lse_rows),
        stored(a.y_stored), dq(a.dq_rows), dkv(a.dkv_rows);
    const PartialAttention part = a.Part(queries, keys);
    ASSERT_TRUE(PartialAttentionForward(ctx, qkv, kv, part, /*merge=*/true, y, lse).ok());
    EXPECT_TRUE(SameBits(y.ToHost(), a.y_rows));
    EXPECT_TRUE(SameBits(lse.ToHost(), a.lse_rows));
    ASSERT_TRUE(PartialAttentionBackward(ctx, dy, qkv, kv, stored, lse, part, dq, dkv).ok());
    EXPECT_TRUE(SameBits(dq.ToHost(), a.dq_rows));
    EXPECT_TRUE(SameBits(dkv.ToHost(), a.dkv_rows));
  }
}

TEST(PartialAttentionOnCudaTest, TheDryRunPlansWhatTheRunAllocates) {
  const ChunkedAttention a(DType::kBf16, {2, 17, 4, 2, 8}, {9, 17});
  const PartialAttention part = a.Part(a.Queries(1), a.Keys(0));
  a.Scatter();
  const auto run = [&](const Context& ctx, const auto& tensor) {
    const auto &qkv = tensor(a.q_rows), &kv = tensor(a.kv_rows), &dy = tensor(a.dy_rows),
               &y = tensor(a.y_rows), &stored = tensor(a.y_stored), &lse = tensor(a.lse_rows),
               &dkv = tensor(a.dkv_rows);
    ASSERT_TRUE(PartialAttentionForward(ctx, qkv, kv, part, false, y, lse).ok());
    ASSERT_TRUE(PartialAttentionBackward(ctx, dy, qkv, kv, stored, lse, part, y, dkv).ok());
  };
  const size_t planned = CudaDryRunPeakBytes([&](const Context& ctx) {
    run(ctx, [](const Tensor& x) { return CudaDryRunTensor(x.dtype(), x.shape()); });
  });
  const CudaTestContext ctx;
  run(ctx, [](const Tensor& x) { return CudaTestTensor(x); });
  EXPECT_GT(planned, 0);
  EXPECT_EQ(Context(ctx).arena().peak_bytes(), planned);
  EXPECT_EQ(Context(ctx).arena().used_bytes(), 0);
}

TEST(PartialAttentionOnCudaTest, HeadsTooLargeAreAnError) {
  const CudaTestContext ctx;
  const ChunkedAttention a(DType::kF32, {1, 2, 1, 1, 257}, {2});
  const CudaTestTensor qkv(a.q_rows), kv(a.kv_rows), y(a.y_rows), lse(a.lse_rows);
  EXPECT_EQ(
      PartialAttentionForward(ctx, qkv, kv, a.Part(a.Queries(0), a.Keys(0)), false, y, lse).code(),
      absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace strake
