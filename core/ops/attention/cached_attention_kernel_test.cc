// The CUDA kernels of cached attention, under the emulator and on a GPU, against the reference in
// f64.
#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/attention/cached_attention_cuda.h"
#include "core/ops/attention/cached_attention_reference.h"
#include "core/testing/attention_tolerance.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::AttentionTolerance;
using testing::Copy;
using testing::ExpectNear;
using testing::FillNormal;
using testing::GuardAt;
using testing::GuardedBuffer;
using testing::kRoundoff;
using testing::SameBits;
using testing::ScopedRandomCudaOrder;
using testing::ToDouble;

constexpr int kSpareRows = 3;  // rows of the cache after the new tokens

// Rows of the cache from `past` on hold NaN. Buffers with odd sizes that end at a guard page are
// unaligned.
template <typename T>
struct Problem {
  Problem(const AttentionShape& shape, int64_t past, GuardAt guard_at)
      : shape(shape),
        past(past),
        columns((shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim),
        kv_columns(shape.num_kv_heads * shape.head_dim),
        qkv("qkv", shape.seq_len * columns, guard_at),
        y("y", shape.seq_len * shape.num_heads * shape.head_dim, guard_at),
        cache_rows(past + shape.seq_len + kSpareRows),
        k_cache("k_cache", cache_rows * kv_columns, guard_at),
        v_cache("v_cache", k_cache.size(), guard_at),
        workspace("workspace", cuda::CachedAttentionWorkspaceSize(shape, past, cache_rows),
                  guard_at) {
    FillNormal(qkv, 1);
    FillNormal(k_cache, 2);
    FillNormal(v_cache, 3);
    std::fill(k_cache.data() + past * kv_columns, k_cache.end(), T(NAN));
    std::fill(v_cache.data() + past * kv_columns, v_cache.end(), T(NAN));
  }

  absl::Status Forward(const int32_t* past_on_gpu = nullptr) {
    return cuda::CachedAttentionForward<T>(nullptr, {.qkv = qkv.data(),
                                                     .shape = shape,
                                                     .past = past_on_gpu == nullptr ? past : 0,
                                                     .past_on_gpu = past_on_gpu,
                                                     .cache_rows = cache_rows,
                                                     .k_cache = k_cache.data(),
                                                     .v_cache = v_cache.data(),
                                                     .y = y.data(),
                                                     .workspace = workspace.data()});
  }

  AttentionShape shape;
  int64_t past, columns, kv_columns;
  GuardedBuffer<T> qkv, y;
  int64_t cache_rows;
  GuardedBuffer<T> k_cache, v_cache;
  GuardedBuffer<float> workspace;
};

// The cache after `p`'s call, computed from the cache before it.
template <typename T>
std::vector<T> Appended(const Problem<T>& p, std::vector<T> cache, int64_t first_column) {
  for (int64_t n = 0; n < p.shape.seq_len; ++n) {
    std::copy_n(p.qkv.data() + n * p.columns + first_column, p.kv_columns,
                cache.data() + (p.past + n) * p.kv_columns);
  }
  return cache;
}

// Compares the caches after the call.
template <typename T>
std::vector<double> Reference(const Problem<T>& p) {
  const AttentionShape& s = p.shape;
  const std::vector<double> x = ToDouble(p.qkv), k = ToDouble(p.k_cache), v = ToDouble(p.v_cache);
  std::vector<double> y(p.y.size());
  for (int64_t h = 0; h < s.num_heads; ++h) {
    const int64_t kv = h / (s.num_heads / s.num_kv_heads) * s.head_dim;
    reference::CachedAttentionForward<double>({.q = x.data() + h * s.head_dim,
                                               .q_stride = p.columns,
                                               .k_cache = k.data() + kv,
                                               .v_cache = v.data() + kv,
                                               .cache_stride = p.kv_columns,
                                               .past = p.past,
                                               .shape = s,
                                               .y = y.data() + h * s.head_dim,
                                               .y_stride = s.num_heads * s.head_dim});
  }
  return y;
}

template <typename T>
void Check(const AttentionShape& shape, int64_t past, GuardAt guard_at) {
  SCOPED_TRACE(::testing::Message()
               << "N " << shape.seq_len << ", past " << past << ", H " << shape.num_heads << ", D "
               << shape.head_dim << ", window " << shape.window << ", cap " << shape.score_softcap);
  Problem<T> p(shape, past, guard_at);
  const int64_t k = shape.num_heads * shape.head_dim;
  const std::vector<T> k_cache = Appended(p, Copy(p.k_cache), k);
  const std::vector<T> v_cache = Appended(p, Copy(p.v_cache), k + p.kv_columns);
  ASSERT_EQ(p.Forward(), absl::OkStatus());
  EXPECT_TRUE(SameBits(p.k_cache, k_cache));
  EXPECT_TRUE(SameBits(p.v_cache, v_cache));
  const double bound = AttentionTolerance(shape.head_dim, past + shape.seq_len);
  ExpectNear(ToDouble(p.y), Reference(p), bound + kRoundoff<T>, "y");
}

template <typename T>
class CachedAttentionCudaTest : public ::testing::Test {};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(CachedAttentionCudaTest, Types);

TYPED_TEST(CachedAttentionCudaTest, FollowsTheReference) {
  Check<TypeParam>({1, 1, 1, 1, 1}, 0, GuardAt::kEnd);
  Check<TypeParam>({1, 1, 3, 1, 5}, 200, GuardAt::kEnd);  // 2 splits
  Check<TypeParam>({1, 1, 2, 2, 64}, 64, GuardAt::kStart);
  // The first tokens see nothing of the last of 3 splits.
  Check<TypeParam>({1, 70, 2, 1, 8}, 65, GuardAt::kStart);
  Check<TypeParam>({1, 7, 4, 2, 9}, 50, GuardAt::kEnd);  // one split
  Check<TypeParam>({1, 66, 1, 1, 72}, 0, GuardAt::kStart);
  Check<TypeParam>({1, 3, 2, 1, 131}, 70, GuardAt::kEnd);
}

TYPED_TEST(CachedAttentionCudaTest, OneTokenFollowsTheReference) {
  Check<TypeParam>({1, 1, 4, 2, 64}, 123, GuardAt::kStart);   // one split, with room for one
  Check<TypeParam>({1, 1, 4, 2, 64}, 127, GuardAt::kStart);   // a full split, and an empty one
  Check<TypeParam>({1, 1, 4, 4, 16}, 128, GuardAt::kStart);   // one key in the second split
  Check<TypeParam>({1, 1, 8, 2, 128}, 300, GuardAt::kStart);  // groups of 4 heads
  Check<TypeParam>({1, 1, 5, 1, 24}, 20, GuardAt::kEnd);      // a group of 5, in two blocks
  Check<TypeParam>({1, 1, 3, 1, 256}, 9, GuardAt::kStart);
  Check<TypeParam>({1, 1, 2, 1, 131}, 70, GuardAt::kEnd);
}

// Windows within a tile and a split, across them, of all keys but one, and of more than there are.
TYPED_TEST(CachedAttentionCudaTest, LimitedScoresFollowTheReference) {
  Check<TypeParam>({1, 7, 4, 2, 9, 3}, 50, GuardAt::kEnd);
  Check<TypeParam>({1, 70, 2, 1, 8, 40}, 65, GuardAt::kStart);
  Check<TypeParam>({1, 70, 2, 1, 8, 134}, 65, GuardAt::kStart);
  Check<TypeParam>({1, 3, 2, 1, 131, 70, 0, 2}, 150, GuardAt::kEnd);
  Check<TypeParam>({1, 9, 2, 1, 16, 100, 0.1}, 0, GuardAt::kEnd);
}

// Splits are counted from the first key that is seen.
TYPED_TEST(CachedAttentionCudaTest, OneTokenWithLimitedScoresFollowsTheReference) {
  Check<TypeParam>({1, 1, 4, 2, 64, 1}, 123, GuardAt::kStart);
  Check<TypeParam>({1, 1, 4, 4, 16, 128}, 200, GuardAt::kStart);  // one split
  Check<TypeParam>({1, 1, 5, 1, 24, 129}, 200, GuardAt::kEnd);    // one key in the second
  Check<TypeParam>({1, 1, 8, 2, 128, 150}, 300, GuardAt::kStart);
  Check<TypeParam>({1, 1, 2, 1, 131, 300}, 140, GuardAt::kEnd);  // of more than there are
  Check<TypeParam>({1, 1, 3, 1, 256, 0, 0, 1}, 9, GuardAt::kStart);
  Check<TypeParam>({1, 1, 4, 2, 9, 140, 1, 5}, 200, GuardAt::kEnd);
}

// What is outside of the window is not read.
TYPED_TEST(CachedAttentionCudaTest, OneTokenReadsItsWindowAlone) {
  for (const int64_t past : {9, 10, 140, 300}) {
    Problem<TypeParam> expected({1, 1, 4, 2, 16, 140}, past, GuardAt::kStart);
    ASSERT_EQ(expected.Forward(), absl::OkStatus());
    Problem<TypeParam> p(expected.shape, past, GuardAt::kStart);
    const int64_t unseen = expected.shape.FirstKey(past) * p.kv_columns;
    std::fill_n(p.k_cache.data(), unseen, TypeParam(NAN));
    std::fill_n(p.v_cache.data(), unseen, TypeParam(NAN));
    ASSERT_EQ(p.Forward(), absl::OkStatus());
    EXPECT_TRUE(SameBits(p.y, Copy(expected.y))) << past;
  }
}

// A recorded graph has one number in its arguments, and serves all positions.
TYPED_TEST(CachedAttentionCudaTest, ReadsTheNumberOfPastTokensFromMemory) {
  for (const int64_t window : {0, 3, 150}) {
    for (const int64_t past : {0, 5, 200}) {
      SCOPED_TRACE(::testing::Message() << "window " << window << ", past " << past);
      const AttentionShape shape{1, 1, 4, 2, 16, window};
      Problem<TypeParam> expected(shape, past, GuardAt::kStart);
      ASSERT_EQ(expected.Forward(), absl::OkStatus());
      Problem<TypeParam> p(shape, past, GuardAt::kStart);
      GuardedBuffer<int32_t> past_on_gpu("past", 1);
      past_on_gpu.data()[0] = static_cast<int32_t>(past);
      ASSERT_EQ(p.Forward(past_on_gpu.data()), absl::OkStatus());
      EXPECT_TRUE(SameBits(p.y, Copy(expected.y)));
      EXPECT_TRUE(SameBits(p.k_cache, Copy(expected.k_cache)));
    }
  }
}

// The bits of a token do not depend on how many more the cache has room for.
TYPED_TEST(CachedAttentionCudaTest, TheSizeOfTheCacheMovesNoBit) {
  Problem<TypeParam> small({1, 1, 2, 1, 16}, 150, GuardAt::kStart);
  Problem<TypeParam> large({1, 1, 2, 1, 16}, 700, GuardAt::kStart);
  std::copy_n(large.qkv.data(), small.qkv.size(), small.qkv.data());
  std::copy_n(large.k_cache.data(), 150 * small.kv_columns, small.k_cache.data());
  std::copy_n(large.v_cache.data(), 150 * small.kv_columns, small.v_cache.data());
  large.past = 150;
  ASSERT_EQ(small.Forward(), absl::OkStatus());
  ASSERT_EQ(large.Forward(), absl::OkStatus());
  EXPECT_TRUE(SameBits(small.y, Copy(large.y)));
}

TYPED_TEST(CachedAttentionCudaTest, NoTokensWriteNothing) {
  Problem<TypeParam> p({1, 0, 2, 1, 8}, 5, GuardAt::kEnd);
  const std::vector<TypeParam> k_cache = Copy(p.k_cache);
  EXPECT_EQ(p.workspace.size(), 0u);
  EXPECT_EQ(p.Forward(), absl::OkStatus());
  EXPECT_TRUE(SameBits(p.k_cache, k_cache));
}

// Heads and tokens that fill a GPU by themselves are not split: the workspace is lse alone.
TYPED_TEST(CachedAttentionCudaTest, SplitsOnlyWhatWouldNotFillAGpu) {
  EXPECT_EQ(cuda::CachedAttentionWorkspaceSize({1, 2048, 32, 8, 128}, 100000, 200000), 2048 * 32);
  EXPECT_EQ(cuda::CachedAttentionWorkspaceSize({1, 1, 32, 8, 128}, 4095, 8192), 64 * 32 * 129);
  EXPECT_EQ(cuda::CachedAttentionWorkspaceSize({1, 1, 32, 8, 128, 1024}, 0, 8192), 8 * 32 * 129);
}

// Head sizes are a multiple of the vector width, but one tensor is at an unaligned address.
template <typename T>
void ExpectAnyMayBeUnaligned(const AttentionShape& shape) {
  Problem<T> aligned(shape, 70, GuardAt::kStart);
  Problem<T> before(shape, 70, GuardAt::kStart);
  ASSERT_EQ(aligned.Forward(), absl::OkStatus());
  for (int unaligned = 0; unaligned < 5; ++unaligned) {
    SCOPED_TRACE(unaligned);
    Problem<T> p({1, shape.seq_len + 1, 2, 1, 16}, 70, GuardAt::kStart);
    const auto at = [&](const auto& buffer, int i) { return buffer.data() + (i == unaligned); };
    std::copy_n(before.qkv.data(), before.qkv.size(), at(p.qkv, 0));
    std::copy_n(before.k_cache.data(), before.k_cache.size(), at(p.k_cache, 1));
    std::copy_n(before.v_cache.data(), before.v_cache.size(), at(p.v_cache, 2));
    ASSERT_EQ(cuda::CachedAttentionForward<T>(nullptr, {.qkv = at(p.qkv, 0),
                                                        .shape = shape,
                                                        .past = 70,
                                                        .past_on_gpu = nullptr,
                                                        .cache_rows = aligned.cache_rows,
                                                        .k_cache = at(p.k_cache, 1),
                                                        .v_cache = at(p.v_cache, 2),
                                                        .y = at(p.y, 3),
                                                        .workspace = at(p.workspace, 4)}),
              absl::OkStatus());
    EXPECT_EQ(std::memcmp(at(p.y, 3), aligned.y.data(), aligned.y.size() * sizeof(T)), 0);
  }
}

TYPED_TEST(CachedAttentionCudaTest, AnyTensorMayBeUnaligned) {
  ExpectAnyMayBeUnaligned<TypeParam>({1, 2, 2, 1, 16});
  ExpectAnyMayBeUnaligned<TypeParam>({1, 1, 2, 1, 16});
}

TYPED_TEST(CachedAttentionCudaTest, TheSameBitsInEveryOrderOfThreads) {
  for (const int64_t num_tokens : {1, 3}) {
    Problem<TypeParam> p({1, num_tokens, 2, 1, 20}, 150, GuardAt::kEnd);
    std::vector<TypeParam> y;
    for (uint64_t seed = 0; seed < 3; ++seed) {
      std::optional<ScopedRandomCudaOrder> order;
      if (seed > 0) order.emplace(seed);
      ASSERT_EQ(p.Forward(), absl::OkStatus());
      if (seed == 0) y = Copy(p.y);
      EXPECT_TRUE(SameBits(p.y, y)) << num_tokens << " tokens, seed " << seed;
    }
  }
}

TYPED_TEST(CachedAttentionCudaTest, RefusesLargerHeads) {
  Problem<TypeParam> p({1, 1, 1, 1, 257}, 2, GuardAt::kEnd);
  EXPECT_EQ(p.Forward().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace strake
