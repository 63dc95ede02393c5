// The attentions on a GPU.
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "core/ops/attention/cached_attention.h"
#include "core/ops/attention/causal_attention.h"
#include "core/ops/documents.h"
#include "core/testing/attention_tolerance.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::AttentionTolerance;
using testing::CopyConvert;
using testing::CudaDryRunPeakBytes;
using testing::CudaDryRunTensor;
using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::FillNormal;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::UnitRoundoff;

int64_t Columns(const AttentionShape& s) { return (s.num_heads + 2 * s.num_kv_heads) * s.head_dim; }

struct HostTensor : TestTensor {
  HostTensor(DType dtype, const Shape& shape, uint64_t seed) : TestTensor(dtype, shape) {
    FillNormal(*this, seed);
  }
};

// The same numbers in f64.
struct InF64 : TestTensor {
  explicit InF64(const Tensor& x) : TestTensor(DType::kF64, x.shape()) { CopyConvert(x, *this); }
};

struct Causal {
  Causal(DType dtype, const AttentionShape& s)
      : qkv_shape({s.batch * s.seq_len, Columns(s)}),
        y_shape({s.batch * s.seq_len, s.num_heads * s.head_dim}),
        lse_shape({s.batch, s.num_heads, s.seq_len}),
        host_qkv(dtype, qkv_shape, 1),
        host_dy(dtype, y_shape, 2),
        qkv(host_qkv),
        dy(host_dy),
        y(dtype, y_shape),
        dqkv(dtype, qkv_shape),
        lse(DType::kF32, lse_shape) {}

  Shape qkv_shape, y_shape, lse_shape;
  HostTensor host_qkv, host_dy;
  CudaTestTensor qkv, dy, y, dqkv, lse;
};

// The backward pass starts from the rounded y and lse of the forward pass.
void CheckCausal(DType dtype, const AttentionShape& shape,
                 const std::vector<int64_t>& lengths = {}) {
  SCOPED_TRACE(::testing::Message() << DTypeName(dtype) << ", T " << shape.seq_len << ", window "
                                    << shape.window << ", cap " << shape.score_softcap);
  const CudaTestContext ctx;
  const TestContext cpu;
  const Causal p(dtype, shape);
  const TestTensor host_positions(DType::kI32, {shape.batch * shape.seq_len});
  Documents host;
  if (!lengths.empty()) {
    ASSERT_EQ(SetDocumentPositions(lengths, shape.seq_len, host_positions), absl::OkStatus());
    host = {host_positions, lengths};
  }
  const CudaTestTensor positions(host_positions);
  const Documents documents = lengths.empty() ? Documents() : Documents{positions, lengths};
  ASSERT_TRUE(CausalAttentionForward(ctx, p.qkv, shape, p.y, p.lse, documents).ok());
  ASSERT_TRUE(CausalAttentionBackward(ctx, p.dy, p.qkv, p.y, p.lse, shape, p.dqkv, documents).ok());
  const InF64 qkv(p.host_qkv), dy(p.host_dy), own_y(p.y.ToHost()), own_lse(p.lse.ToHost());
  const TestTensor y(DType::kF64, p.y_shape), lse(DType::kF64, p.lse_shape),
      dqkv(DType::kF64, p.qkv_shape);
  ASSERT_TRUE(CausalAttentionForward(cpu, qkv, shape, y, lse, host).ok());
  ASSERT_TRUE(CausalAttentionBackward(cpu, dy, qkv, own_y, own_lse, shape, dqkv, host).ok());
  const double bound = AttentionTolerance(shape.head_dim, shape.seq_len);
  EXPECT_LE(RelativeError(own_y, y), bound + UnitRoundoff(dtype));
  EXPECT_LE(RelativeError(own_lse, lse), bound);
  // Two products in sequence: the rounding of dp adds to that of p.
  EXPECT_LE(RelativeError(p.dqkv.ToHost(), dqkv), 2 * bound + UnitRoundoff(dtype));
  EXPECT_GT(MaxAbs(dqkv), shape.seq_len > 0 ? 0.1 : -1);
}

// Groups of heads, several tiles, ragged; a head that is padded to 128; empty; limited scores.
TEST(CausalAttentionOnCudaTest, FollowsF64) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const AttentionShape& shape : {AttentionShape{2, 17, 4, 2, 8},
                                        {1, 66, 2, 1, 16},
                                        {1, 5, 1, 1, 67},
                                        {2, 0, 2, 1, 8},
                                        {1, 80, 4, 2, 8, 11},
                                        {2, 9, 2, 1, 16, 4, 0.5, 3}}) {
      CheckCausal(dtype, shape);
    }
  }
}

TEST(CausalAttentionOnCudaTest, FollowsF64WithinDocuments) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    CheckCausal(dtype, {2, 70, 4, 2, 8}, {30, 40, 65, 1, 4});
    CheckCausal(dtype, {2, 9, 2, 1, 16, 4, 0.5, 3}, {9, 2, 7});
  }
}

// Their number is all that a GPU's documents are checked for.
TEST(CausalAttentionOnCudaTest, WrongLengthsAreAnError) {
  const CudaTestContext ctx;
  const AttentionShape shape{1, 6, 2, 1, 8};
  const Causal p(DType::kF32, shape);
  const CudaTestTensor positions(DType::kI32, {6});
  const int64_t lengths[] = {2, 3};
  const absl::Status status =
      CausalAttentionForward(ctx, p.qkv, shape, p.y, p.lse, {positions, lengths});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "[causal_attention] 2 documents have 5 tokens, the batch has 6");
}

TEST(CausalAttentionOnCudaTest, TheDryRunPlansWhatTheRunAllocates) {
  const AttentionShape shape{2, 17, 4, 2, 8};
  const CudaTestContext ctx;
  const Causal p(DType::kBf16, shape);
  const size_t planned = CudaDryRunPeakBytes([&](const Context& ctx) {
    const Tensor qkv = CudaDryRunTensor(DType::kBf16, p.qkv_shape),
                 y = CudaDryRunTensor(DType::kBf16, p.y_shape),
                 lse = CudaDryRunTensor(DType::kF32, p.lse_shape);
    ASSERT_TRUE(CausalAttentionForward(ctx, qkv, shape, y, lse).ok());
    ASSERT_TRUE(CausalAttentionBackward(ctx, y, qkv, y, lse, shape, qkv).ok());
  });
  ASSERT_TRUE(CausalAttentionForward(ctx, p.qkv, shape, p.y, p.lse).ok());
  ASSERT_TRUE(CausalAttentionBackward(ctx, p.dy, p.qkv, p.y, p.lse, shape, p.dqkv).ok());
  EXPECT_GT(planned, 0);
  EXPECT_EQ(Context(ctx).arena().peak_bytes(), planned);
  EXPECT_EQ(Context(ctx).arena().used_bytes(), 0);
}

TEST(CausalAttentionOnCudaTest, HeadsTooLargeAreAnError) {
  const CudaTestContext ctx;
  const AttentionShape shape{1, 2, 1, 1, 257};
  const Causal p(DType::kF32, shape);
  EXPECT_EQ(CausalAttentionForward(ctx, p.qkv, shape, p.y, p.lse).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(CausalAttentionOnCudaDeathTest, LseIsF32) {
  const CudaTestContext ctx;
  const AttentionShape shape{1, 2, 1, 1, 4};
  const Causal p(DType::kBf16, shape);
  const CudaTestTensor lse(DType::kBf16, p.lse_shape);
  EXPECT_DEATH((void)CausalAttentionForward(ctx, p.qkv, shape, p.y, lse), "lse bf16\\[1, 1, 2\\]");
}

// The cache holds `past` tokens, and has three more rows than are used.
void CheckCached(DType dtype, const AttentionShape& shape, int64_t past) {
  SCOPED_TRACE(::testing::Message()
               << DTypeName(dtype) << ", N " << shape.seq_len << ", past " << past);
  const CudaTestContext ctx;
  const Shape cache = {past + shape.seq_len + 3, shape.num_kv_heads * shape.head_dim};
  const Shape y_shape = {shape.seq_len, shape.num_heads * shape.head_dim};
  const HostTensor qkv(dtype, {shape.seq_len, Columns(shape)}, 1), k(dtype, cache, 2),
      v(dtype, cache, 3);
  const CudaTestTensor got_k(k), got_v(v), got(dtype, y_shape), cuda_qkv(qkv);
  ASSERT_TRUE(CachedAttentionForward(ctx, cuda_qkv, shape, past, got_k, got_v, got).ok());
  const InF64 k64(k), v64(v), qkv64(qkv);
  const TestTensor y(DType::kF64, y_shape);
  ASSERT_TRUE(CachedAttentionForward(TestContext(), qkv64, shape, past, k64, v64, y).ok());
  EXPECT_LE(RelativeError(got.ToHost(), y),
            AttentionTolerance(shape.head_dim, past + shape.seq_len) + UnitRoundoff(dtype));
  EXPECT_TRUE(SameBits(InF64(got_k.ToHost()), k64));
  EXPECT_TRUE(SameBits(InF64(got_v.ToHost()), v64));
  const size_t planned = CudaDryRunPeakBytes([&](const Context& ctx) {
    const auto like = [](const Tensor& x) { return CudaDryRunTensor(x.dtype(), x.shape()); };
    ASSERT_TRUE(
        CachedAttentionForward(ctx, like(qkv), shape, past, like(k), like(v), like(got)).ok());
  });
  EXPECT_EQ(Context(ctx).arena().peak_bytes(), planned);
}

// One token over several splits of the cache, a prompt, tokens after a cache, and no tokens.
TEST(CachedAttentionOnCudaTest, FollowsF64) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    CheckCached(dtype, {1, 1, 4, 2, 8}, 150);
    CheckCached(dtype, {1, 9, 2, 1, 16}, 0);
    CheckCached(dtype, {1, 7, 2, 2, 9}, 50);
    CheckCached(dtype, {1, 0, 2, 1, 8}, 5);
    CheckCached(dtype, {1, 1, 4, 2, 8, 20, 0, 2}, 150);
    CheckCached(dtype, {1, 9, 2, 1, 16, 5, 0.5}, 30);
  }
}

}  // namespace
}  // namespace strake
