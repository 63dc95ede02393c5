// Causal attention in bf16: cuDNN's kernels if it has them, and its answer if it has none. Then the
// tests are skipped, or, with STRAKE_REQUIRE_CUDNN=1 in the environment, fail.
#include "core/cuda/cudnn_attention.h"

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "core/ops/attention/causal_attention.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::CopyConvert;
using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::FillNormal;
using ::testing::HasSubstr;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;

struct InF64 : TestTensor {
  explicit InF64(const Tensor& x) : TestTensor(DType::kF64, x.shape()) { CopyConvert(x, *this); }
};

struct Bf16Normal : TestTensor {
  Bf16Normal(const Shape& shape, uint64_t seed) : TestTensor(DType::kBf16, shape) {
    FillNormal(*this, seed);
  }
};

// One forward and one backward pass.
struct Run {
  Run(const Context& ctx, const AttentionShape& s, const Tensor& host_qkv, const Tensor& host_dy,
      const Documents& documents)
      : qkv(host_qkv),
        dy(host_dy),
        y(DType::kBf16, host_dy.shape()),
        dqkv(DType::kBf16, host_qkv.shape()),
        lse(DType::kF32, {s.batch, s.num_heads, s.seq_len}) {
    EXPECT_EQ(CausalAttentionForward(ctx, qkv, s, y, lse, documents), absl::OkStatus());
    EXPECT_EQ(CausalAttentionBackward(ctx, dy, qkv, y, lse, s, dqkv, documents), absl::OkStatus());
  }
  CudaTestTensor qkv, dy, y, dqkv, lse;
};

// Fused kernels round the probabilities to bf16 before they are multiplied by the values. They also
// round probabilities and gradients of scores before the products of the backward pass. Each
// element of a result is then a sum of rounded terms, and its error is at most half an ulp (2^-9)
// of the sum of their absolute values. That sum is below sqrt(2 / pi) times the result of one key
// alone, for a mean of unit normals, so the error is within 2^-8 of the largest element; the store
// rounds once more. The gradients of scores are a difference, dp - sum(dy y), whose y was rounded:
// twice that. Sums are f32.
constexpr double kForwardBound = 2 * 0x1p-8;
constexpr double kBackwardBound = 4 * 0x1p-8;
// Products of unit normal bf16 are exact in f32. So a score of at most 9 sqrt(D) / sqrt(D) and the
// sum of exponentials have f32 errors, except for a fast exponential of 2 ulp.
constexpr double kLseBound = 1e-5;

// Skips or fails the test unless cuDNN has kernels for the shape.
void RequireCudnn(const Context& ctx, const CudnnAttentionShape& shape) {
  const absl::Status prepared = ctx.cuda().cudnn_attention().Prepare(shape);
  if (prepared.ok()) return;
  if (std::getenv("STRAKE_REQUIRE_CUDNN") != nullptr) {
    FAIL() << "no cuDNN, and it is required: " << prepared.message();
  }
  GTEST_SKIP() << prepared.message();
}

// Without lengths, no documents are given.
void CheckFollowsF64(const AttentionShape& s, const std::vector<int64_t>& lengths = {}) {
  const int64_t max_documents = lengths.empty() ? 0 : CudnnMaxDocuments(s.batch, s.seq_len);
  const CudnnAttentionShape shape = {s.batch,    s.seq_len,    s.num_heads, s.num_kv_heads,
                                     s.head_dim, true,         s.window,    s.score_scale,
                                     0,          max_documents};
  SCOPED_TRACE(shape.ToString());
  const CudaTestContext ctx(size_t{1} << 26);
  RequireCudnn(ctx, shape);
  if (::testing::Test::IsSkipped() || ::testing::Test::HasFatalFailure()) return;
  const Bf16Normal host_qkv({s.batch * s.seq_len, (s.num_heads + 2 * s.num_kv_heads) * s.head_dim},
                            1);
  const Bf16Normal host_dy({s.batch * s.seq_len, s.num_heads * s.head_dim}, 2);
  const TestTensor host_positions(DType::kI32, {s.batch * s.seq_len});
  if (!lengths.empty()) {
    ASSERT_EQ(SetDocumentPositions(lengths, s.seq_len, host_positions), absl::OkStatus());
  }
  const CudaTestTensor positions(host_positions);
  const auto documents = [&](const Tensor& at) {
    return lengths.empty() ? Documents() : Documents{at, lengths};
  };
  const Run run(ctx, s, host_qkv, host_dy, documents(positions));
  const Run again(ctx, s, host_qkv, host_dy, documents(positions));
  const InF64 qkv(host_qkv), dy(host_dy), y(host_dy), dqkv(host_qkv), own_y(run.y.ToHost());
  const TestTensor lse(DType::kF64, {s.batch, s.num_heads, s.seq_len});
  const TestContext cpu;
  ASSERT_TRUE(CausalAttentionForward(cpu, qkv, s, y, lse, documents(host_positions)).ok());
  ASSERT_TRUE(
      CausalAttentionBackward(cpu, dy, qkv, y, lse, s, dqkv, documents(host_positions)).ok());
  EXPECT_LE(RelativeError(own_y, y), kForwardBound);
  EXPECT_LE(RelativeError(InF64(run.lse.ToHost()), lse), kLseBound);
  EXPECT_LE(RelativeError(InF64(run.dqkv.ToHost()), dqkv), kBackwardBound);
  EXPECT_GT(MaxAbs(dqkv), 0.1);
  for (const auto member : {&Run::y, &Run::dqkv, &Run::lse}) {
    EXPECT_TRUE(SameBits((run.*member).ToHost(), (again.*member).ToHost()));
  }
}

TEST(CudnnAttentionTest, FollowsF64WithHeadsOf64) { CheckFollowsF64({2, 192, 3, 3, 64}); }
TEST(CudnnAttentionTest, FollowsF64WithHeadsOf96) { CheckFollowsF64({1, 150, 4, 2, 96, 60}); }
TEST(CudnnAttentionTest, FollowsF64WithHeadsOf128) { CheckFollowsF64({1, 256, 2, 2, 128}); }
TEST(CudnnAttentionTest, FollowsF64WithGroups) { CheckFollowsF64({2, 128, 4, 2, 64}); }
TEST(CudnnAttentionTest, FollowsF64WithGroupsOf128) { CheckFollowsF64({1, 256, 8, 2, 128}); }
// T is not a multiple of a tile.
TEST(CudnnAttentionTest, FollowsF64WithRaggedTiles) { CheckFollowsF64({3, 333, 6, 2, 64}); }

// Windows of one token, shorter than a tile, across tiles, and of all tokens.
TEST(CudnnAttentionTest, FollowsF64WithWindows) {
  CheckFollowsF64({1, 128, 2, 2, 64, 1});
  CheckFollowsF64({2, 192, 4, 2, 64, 20});
  CheckFollowsF64({1, 333, 2, 1, 128, 150});
  CheckFollowsF64({1, 100, 2, 2, 64, 100});
}
TEST(CudnnAttentionTest, FollowsF64WithAScale) { CheckFollowsF64({1, 128, 4, 2, 64, 50, 0.05}); }

// Of one token, within a tile, across tiles, and of a whole sequence; more in one sequence than in
// others; with groups, windows and scales.
TEST(CudnnAttentionTest, FollowsF64WithDocuments) {
  CheckFollowsF64({1, 128, 2, 2, 64}, {50, 78});
  CheckFollowsF64({2, 140, 4, 2, 64}, {140, 1, 10, 129});
  CheckFollowsF64({1, 203, 3, 1, 64}, {1, 65, 137});
  CheckFollowsF64({1, 128, 2, 1, 128, 40, 0.05}, {30, 98});
  CheckFollowsF64({2, 150, 2, 2, 96, 60}, {150, 75, 75});
}
// Two for each sequence of 128 tokens. One more, and our own kernels run.
TEST(CudnnAttentionTest, FollowsF64WithAsManyDocumentsAsPlannedAndMore) {
  CheckFollowsF64({2, 128, 2, 2, 64}, {128, 128});
  CheckFollowsF64({2, 128, 2, 2, 64}, {128, 1, 126, 1});
  CheckFollowsF64({2, 128, 2, 2, 64}, {127, 1, 1, 126, 1});
}

// GPT-2 124M and 1558M, and Llama-3-8B, at the largest micro-batches of
// tools/gpu_bundle/parts/sizes.sh; Mistral 7B's window.
TEST(CudnnAttentionTest, TakesTheShapesOfPresets) {
  const CudaTestContext ctx;
  for (const bool deterministic : {true, false}) {
    RequireCudnn(ctx, {64, 1024, 12, 12, 64, deterministic});
    RequireCudnn(ctx, {32, 1024, 25, 25, 64, deterministic});
    RequireCudnn(ctx, {2, 8192, 32, 8, 128, deterministic});
    RequireCudnn(ctx, {2, 8192, 32, 8, 128, deterministic, /*window=*/4096});
    RequireCudnn(ctx, {2, 8192, 32, 8, 128, deterministic, 0, 0, 0, /*num_documents=*/32});
  }
}

TEST(CudnnAttentionTest, SaysWhyItDoesNotTakeAShape) {
  const CudaTestContext ctx;
  CudnnAttention& cudnn = Context(ctx).cuda().cudnn_attention();
  const absl::Status refused = cudnn.Prepare({1, 128, 1, 1, 8});
  EXPECT_THAT(refused.message(), HasSubstr("cuDNN"));
  EXPECT_EQ(cudnn.Prepare({1, 128, 1, 1, 8}), refused);
  EXPECT_EQ(CudnnAttention::ForwardWorkspaceBytes({1, 128, 1, 1, 8}), 0);
  EXPECT_EQ(CudnnAttention::BackwardWorkspaceBytes({1, 128, 1, 1, 8}), 0);
}

}  // namespace
}  // namespace strake
