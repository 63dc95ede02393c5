// The CUDA kernels of causal attention, under the emulator and on a GPU, against the reference in
// f64.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/attention/causal_attention_cuda.h"
#include "core/ops/attention/causal_attention_problem.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::CheckAttention;
using testing::Copy;
using testing::FillNormal;
using testing::GuardAt;
using testing::GuardedBuffer;
using testing::SameBits;
using testing::ScopedRandomCudaOrder;

template <typename T>
using Problem = testing::AttentionProblem<T>;

template <typename T>
class CausalAttentionCudaTest : public ::testing::Test {};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(CausalAttentionCudaTest, Types);

// Ragged for every tile and vector width, one token, one head, groups, several tiles, each of the
// three paddings of the head, and empty.
constexpr AttentionShape kShapes[] = {{1, 1, 1, 1, 1},    {2, 17, 6, 2, 8},  {2, 2, 2, 2, 5},
                                      {1, 130, 1, 1, 64}, {1, 65, 2, 2, 48}, {2, 66, 2, 1, 9},
                                      {1, 66, 1, 1, 128}, {1, 35, 2, 2, 67}, {1, 34, 2, 1, 256},
                                      {1, 5, 1, 1, 131},  {0, 4, 2, 1, 8},   {2, 0, 2, 1, 8}};

TYPED_TEST(CausalAttentionCudaTest, FollowsTheReference) {
  for (const AttentionShape& shape : kShapes) {
    Problem<TypeParam> p(shape, GuardAt::kEnd);
    CheckAttention(p);
  }
  for (const AttentionShape& shape : {AttentionShape{2, 17, 6, 2, 8}, {1, 65, 1, 1, 12}}) {
    Problem<TypeParam> p(shape, GuardAt::kStart);
    CheckAttention(p);
  }
}

// Windows of one token, shorter than a tile, of a tile, across tiles, and of all tokens but one;
// caps that hardly matter and that flatten every score; scales; for each padding of the head.
constexpr AttentionShape kLimitedShapes[] = {
    {2, 66, 2, 1, 9, 1},        {1, 135, 4, 2, 8, 5},         {1, 140, 1, 1, 20, 64},
    {2, 150, 2, 1, 5, 80},      {1, 67, 1, 1, 16, 66},        {1, 110, 1, 1, 67, 20},
    {1, 50, 1, 1, 131, 17},     {1, 34, 1, 1, 140, 0, 0, 50}, {1, 70, 2, 2, 12, 0, 0, 1},
    {1, 40, 3, 1, 67, 9, 0, 3}, {2, 66, 2, 1, 16, 0, 0.05},   {1, 66, 2, 1, 20, 10, 1, 5}};

TYPED_TEST(CausalAttentionCudaTest, LimitedScoresFollowTheReference) {
  for (const AttentionShape& shape : kLimitedShapes) {
    Problem<TypeParam> p(shape, GuardAt::kEnd);
    CheckAttention(p);
  }
}

TYPED_TEST(CausalAttentionCudaTest, CapsHoldLargeScores) {
  Problem<TypeParam> p({1, 70, 2, 1, 16, 0, 0, 30}, GuardAt::kStart, 8);
  CheckAttention(p);
  EXPECT_LT(*std::max_element(p.lse.begin(), p.lse.end()), 30 + std::log(70));
  EXPECT_GT(*std::max_element(p.lse.begin(), p.lse.end()), 29);
}

TYPED_TEST(CausalAttentionCudaTest, AWindowOfOneTokenGivesItsValue) {
  Problem<TypeParam> p({1, 70, 1, 1, 8, 1}, GuardAt::kEnd);
  ASSERT_EQ(p.Forward(), absl::OkStatus());
  for (int64_t t = 0; t < 70; ++t) {
    EXPECT_EQ(std::memcmp(&p.y[t * 8], &p.qkv[t * 24 + 16], 8 * sizeof(TypeParam)), 0) << t;
  }
}

TYPED_TEST(CausalAttentionCudaTest, AWindowOfAllTokensMovesNoBit) {
  Problem<TypeParam> plain({1, 70, 1, 1, 8}, GuardAt::kEnd);
  ASSERT_EQ(plain.Forward(), absl::OkStatus());
  ASSERT_EQ(plain.Backward(), absl::OkStatus());
  for (const int64_t window : {int64_t{70}, int64_t{1} << 40}) {
    Problem<TypeParam> p({1, 70, 1, 1, 8, window}, GuardAt::kEnd);
    ASSERT_EQ(p.Forward(), absl::OkStatus());
    ASSERT_EQ(p.Backward(), absl::OkStatus());
    EXPECT_TRUE(SameBits(p.y, Copy(plain.y))) << window;
    EXPECT_TRUE(SameBits(p.dqkv, Copy(plain.dqkv))) << window;
  }
}

// Tiles have 64 tokens, and those without a pair within the window are not visited: NaN in them
// would reach every sum.
TYPED_TEST(CausalAttentionCudaTest, NoTileOutsideOfTheWindowIsVisited) {
  const AttentionShape shape{1, 192, 1, 1, 8, 10};
  Problem<TypeParam> p(shape, GuardAt::kEnd);
  const auto is_finite = [&](int64_t first, int64_t last, int64_t column) {
    return std::all_of(&p.dqkv[first * 24], &p.dqkv[last * 24], [&](const TypeParam& x) {
      return (&x - p.dqkv.data()) % 24 < column || std::isfinite(static_cast<float>(x));
    });
  };
  for (int64_t t = 0; t < 64; ++t) std::fill_n(&p.qkv[t * 24 + 8], 16, TypeParam(NAN));  // k, v
  ASSERT_EQ(p.Forward(), absl::OkStatus());
  ASSERT_EQ(p.Backward(), absl::OkStatus());
  for (int64_t t = 0; t < 192; ++t) {
    EXPECT_EQ(std::isfinite(static_cast<float>(p.y[t * 8])), t >= 128) << t;
  }
  EXPECT_TRUE(is_finite(128, 192, 0));
  EXPECT_FALSE(is_finite(64, 128, 0));

  FillNormal(p.qkv, 1);
  ASSERT_EQ(p.Forward(), absl::OkStatus());
  std::fill_n(&p.dy[128 * 8], 64 * 8, TypeParam(NAN));
  ASSERT_EQ(p.Backward(), absl::OkStatus());
  EXPECT_TRUE(is_finite(0, 64, 0));
  EXPECT_FALSE(is_finite(64, 128, 8));
}

// A key moves no bit of the tokens that do not see it, and gets no gradient from them.
TYPED_TEST(CausalAttentionCudaTest, TokensBeforeTheWindowMoveNoBit) {
  const AttentionShape shape{1, 70, 1, 1, 8, 6, 0, 4};
  for (const int64_t token : {0, 40, 61}) {
    Problem<TypeParam> a(shape, GuardAt::kEnd), b(shape, GuardAt::kEnd);
    for (int64_t c = 0; c < 24; ++c) b.qkv[token * 24 + c] = TypeParam(50 - c);
    ASSERT_EQ(a.Forward(), absl::OkStatus());
    ASSERT_EQ(b.Forward(), absl::OkStatus());
    for (int64_t t = 0; t < 70; ++t) {
      const bool same = std::memcmp(&a.y[t * 8], &b.y[t * 8], 8 * sizeof(TypeParam)) == 0;
      EXPECT_EQ(same, t < token || t >= token + 6) << token << " seen by " << t;
    }
    std::fill_n(&a.dy[token * 8], 6 * 8, TypeParam(0.f));
    ASSERT_EQ(a.Backward(), absl::OkStatus());
    EXPECT_TRUE(std::all_of(&a.dqkv[token * 24], &a.dqkv[token * 24 + 24], [](TypeParam x) {
      return static_cast<float>(x) == 0;
    })) << token;
  }
}

TYPED_TEST(CausalAttentionCudaTest, LargeScoresDoNotOverflow) {
  Problem<TypeParam> p({1, 70, 2, 1, 16}, GuardAt::kStart, 8);
  CheckAttention(p);
  EXPECT_GT(*std::max_element(p.lse.begin(), p.lse.end()), 100);  // exp would be infinite
}

// Head sizes are a multiple of the vector width, but one tensor is at an unaligned address.
TYPED_TEST(CausalAttentionCudaTest, AnyTensorMayBeUnaligned) {
  const AttentionShape shape{1, 5, 2, 1, 16};
  Problem<TypeParam> aligned(shape, GuardAt::kStart);
  ASSERT_EQ(aligned.Forward(), absl::OkStatus());
  ASSERT_EQ(aligned.Backward(), absl::OkStatus());
  for (int unaligned = 0; unaligned < 6; ++unaligned) {
    SCOPED_TRACE(unaligned);
    Problem<TypeParam> p({1, 6, 2, 1, 16}, GuardAt::kStart);
    const auto at = [&](const auto& buffer, int i) { return buffer.data() + (i == unaligned); };
    std::copy_n(aligned.qkv.data(), aligned.qkv.size(), at(p.qkv, 0));
    std::copy_n(aligned.dy.data(), aligned.dy.size(), at(p.dy, 1));
    ASSERT_EQ(
        cuda::CausalAttentionForward<TypeParam>(
            nullptr, {.qkv = at(p.qkv, 0), .shape = shape, .y = at(p.y, 2), .lse = at(p.lse, 3)}),
        absl::OkStatus());
    ASSERT_EQ(cuda::CausalAttentionBackward<TypeParam>(nullptr, {.dy = at(p.dy, 1),
                                                                 .qkv = at(p.qkv, 0),
                                                                 .y = at(p.y, 2),
                                                                 .lse = at(p.lse, 3),
                                                                 .shape = shape,
                                                                 .dqkv = at(p.dqkv, 4),
                                                                 .workspace = at(p.workspace, 5)}),
              absl::OkStatus());
    EXPECT_EQ(std::memcmp(at(p.y, 2), aligned.y.data(), aligned.y.size() * sizeof(TypeParam)), 0);
    EXPECT_EQ(
        std::memcmp(at(p.dqkv, 4), aligned.dqkv.data(), aligned.dqkv.size() * sizeof(TypeParam)),
        0);
  }
}

TYPED_TEST(CausalAttentionCudaTest, EqualScoresGiveTheMean) {
  const AttentionShape shape{1, 130, 1, 1, 4};
  Problem<TypeParam> p(shape, GuardAt::kEnd);
  for (int64_t t = 0; t < shape.seq_len; ++t) {
    for (int64_t d = 0; d < 4; ++d) {
      p.qkv[t * 12 + 4 + d] = TypeParam(0.f);                  // k
      p.qkv[t * 12 + 8 + d] = TypeParam((t * 7 + d) % 5 - 2);  // v
    }
  }
  ASSERT_EQ(p.Forward(), absl::OkStatus());
  float sum = 0;
  for (int64_t t = 0; t < shape.seq_len; ++t) {
    sum += static_cast<float>(p.qkv[t * 12 + 8]);
    // Exact if the count is a power of two, because sums of small integers are.
    if (((t + 1) & t) == 0) {
      EXPECT_EQ(static_cast<float>(p.y[t * 4]), sum / (t + 1)) << t;
    }
    EXPECT_NEAR(p.lse[t], std::log(t + 1.0), 1e-6) << t;
  }
}

TYPED_TEST(CausalAttentionCudaTest, TheFutureMovesNoBit) {
  const AttentionShape shape{1, 70, 1, 1, 8};
  for (const int64_t token : {1, 63, 64}) {
    Problem<TypeParam> a(shape, GuardAt::kEnd), b(shape, GuardAt::kEnd);
    for (int64_t c = 0; c < 24; ++c) b.qkv[token * 24 + c] = TypeParam(50 - c);
    ASSERT_EQ(a.Forward(), absl::OkStatus());
    ASSERT_EQ(b.Forward(), absl::OkStatus());
    EXPECT_EQ(std::memcmp(a.y.data(), b.y.data(), token * 8 * sizeof(TypeParam)), 0) << token;
    EXPECT_NE(std::memcmp(a.y.data() + token * 8, b.y.data() + token * 8, 8 * sizeof(TypeParam)), 0)
        << token;
    // Tokens whose outputs nobody reads get no gradient either.
    std::fill_n(a.dy.data() + token * 8, (70 - token) * 8, TypeParam(0.f));
    ASSERT_EQ(a.Backward(), absl::OkStatus());
    EXPECT_TRUE(std::all_of(a.dqkv.data() + token * 24, a.dqkv.end(), [](TypeParam x) {
      return static_cast<float>(x) == 0;
    })) << token;
    EXPECT_NE(static_cast<float>(a.dqkv[(token - 1) * 24 + 23]), 0) << token;
  }
}

TYPED_TEST(CausalAttentionCudaTest, NanStaysNan) {
  Problem<TypeParam> p({1, 40, 1, 1, 8}, GuardAt::kEnd);
  p.qkv[20 * 24] = TypeParam(NAN);  // of q
  ASSERT_EQ(p.Forward(), absl::OkStatus());
  for (int64_t t = 0; t < 40; ++t) {
    EXPECT_EQ(std::isnan(static_cast<float>(p.y[t * 8])), t == 20) << t;
    EXPECT_EQ(std::isnan(p.lse[t]), t == 20) << t;
  }
}

TYPED_TEST(CausalAttentionCudaTest, TheSameBitsInEveryOrderOfThreads) {
  for (const AttentionShape& shape :
       {AttentionShape{1, 70, 2, 1, 20}, {1, 33, 1, 1, 130}, {1, 70, 2, 1, 20, 40, 0, 2}}) {
    Problem<TypeParam> p(shape, GuardAt::kEnd);
    std::vector<TypeParam> y, dqkv;
    std::vector<float> lse;
    for (uint64_t seed = 0; seed < 3; ++seed) {
      std::optional<ScopedRandomCudaOrder> order;
      if (seed > 0) order.emplace(seed);
      ASSERT_EQ(p.Forward(), absl::OkStatus());
      ASSERT_EQ(p.Backward(), absl::OkStatus());
      if (seed == 0) {
        y = Copy(p.y);
        lse = Copy(p.lse);
        dqkv = Copy(p.dqkv);
      }
      EXPECT_TRUE(SameBits(p.y, y)) << seed;
      EXPECT_TRUE(SameBits(p.lse, lse)) << seed;
      EXPECT_TRUE(SameBits(p.dqkv, dqkv)) << seed;
    }
  }
}

TYPED_TEST(CausalAttentionCudaTest, RefusesLargerHeads) {
  Problem<TypeParam> p({1, 1, 1, 1, 257}, GuardAt::kEnd);
  const absl::Status status = p.Forward();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "attention on CUDA: head_dim 257 is more than 256");
  EXPECT_EQ(p.Backward().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace strake
