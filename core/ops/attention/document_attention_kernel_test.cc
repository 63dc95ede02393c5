// The CUDA kernels of causal attention within documents, under the emulator and on a GPU.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/attention/causal_attention_problem.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::AttentionProblem;
using testing::CheckAttention;
using testing::Copy;
using testing::GuardAt;
using testing::GuardedBuffer;
using testing::SameBits;
using testing::ScopedRandomCudaOrder;

using DocumentLengths = std::vector<int64_t>;

template <typename T>
class DocumentAttentionCudaTest : public ::testing::Test {};

using DocumentTypes = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(DocumentAttentionCudaTest, DocumentTypes);

// Tiles have 64 or 32 tokens: boundaries at, before and after their edges, and one token.
TYPED_TEST(DocumentAttentionCudaTest, FollowsTheReference) {
  for (const AttentionShape& shape :
       {AttentionShape{1, 140, 2, 1, 8}, {1, 140, 2, 2, 20, 30, 0.4, 3}}) {
    for (const DocumentLengths& lengths : {DocumentLengths{140},
                                           {64, 64, 12},
                                           {63, 65, 12},
                                           {65, 63, 12},
                                           {1, 31, 1, 106, 1},
                                           {5, 70, 40, 25}}) {
      AttentionProblem<TypeParam> p(shape, GuardAt::kEnd, 1, lengths);
      CheckAttention(p);
    }
  }
  // The wider paddings of the head.
  for (const AttentionShape& shape :
       {AttentionShape{1, 70, 1, 1, 67, 35, 0, 3}, {1, 70, 2, 1, 131}}) {
    for (const DocumentLengths& lengths :
         {DocumentLengths{32, 32, 6}, {31, 33, 6}, {33, 31, 6}, {1, 68, 1}}) {
      AttentionProblem<TypeParam> p(shape, GuardAt::kEnd, 1, lengths);
      CheckAttention(p);
    }
  }
}

// Each of several sequences has its own.
TYPED_TEST(DocumentAttentionCudaTest, FollowsTheReferenceInABatch) {
  for (const int64_t window : {0, 7}) {
    AttentionProblem<TypeParam> p({3, 70, 4, 2, 8, window}, GuardAt::kEnd, 1,
                                  {30, 40, 70, 1, 64, 5});
    CheckAttention(p);
  }
}

TYPED_TEST(DocumentAttentionCudaTest, OfEveryLengthFollowsTheReference) {
  for (int64_t length = 1; length < 67; ++length) {
    AttentionProblem<TypeParam> p({1, 67, 1, 1, 4}, GuardAt::kEnd, 1, {length, 67 - length});
    CheckAttention(p);
  }
}

TYPED_TEST(DocumentAttentionCudaTest, OfOneTokenGivesItsValue) {
  AttentionProblem<TypeParam> p({1, 70, 1, 1, 8}, GuardAt::kEnd, 1, DocumentLengths(70, 1));
  CheckAttention(p);
  for (int64_t t = 0; t < 70; ++t) {
    EXPECT_EQ(std::memcmp(&p.y[t * 8], &p.qkv[t * 24 + 16], 8 * sizeof(TypeParam)), 0) << t;
  }
}

// A token moves no bit of other documents, and their outputs give it a gradient of exactly 0.
TYPED_TEST(DocumentAttentionCudaTest, NothingPassesBetweenThem) {
  const DocumentLengths lengths = {20, 37, 73};
  for (const int64_t window : {0, 50}) {
    const AttentionShape shape = {1, 130, 1, 1, 8, window};
    for (const int64_t token : {0, 19, 20, 56, 57, 129}) {
      SCOPED_TRACE(token);
      const int64_t first = token < 20 ? 0 : token < 57 ? 20 : 57;
      const int64_t end = token < 20 ? 20 : token < 57 ? 57 : 130;
      AttentionProblem<TypeParam> a(shape, GuardAt::kEnd, 1, lengths),
          b(shape, GuardAt::kEnd, 1, lengths);
      for (int64_t c = 0; c < 24; ++c) b.qkv[token * 24 + c] = TypeParam(50 - c);
      ASSERT_EQ(a.Forward(), absl::OkStatus());
      ASSERT_EQ(b.Forward(), absl::OkStatus());
      const auto same = [&](int64_t begin, int64_t stop) {
        return std::equal(&a.y[begin * 8], &a.y[begin * 8] + (stop - begin) * 8, &b.y[begin * 8],
                          [](TypeParam x, TypeParam y) {
                            return static_cast<float>(x) == static_cast<float>(y);
                          });
      };
      EXPECT_TRUE(same(0, first));
      EXPECT_TRUE(same(end, 130));
      EXPECT_FALSE(same(token, token + 1));

      std::fill_n(&a.dy[first * 8], (end - first) * 8, TypeParam(0.f));
      ASSERT_EQ(a.Backward(), absl::OkStatus());
      EXPECT_TRUE(std::all_of(&a.dqkv[first * 24], &a.dqkv[first * 24] + (end - first) * 24,
                              [](TypeParam x) { return static_cast<float>(x) == 0; }));
      const auto has_gradient = [](TypeParam x) { return static_cast<float>(x) != 0; };
      EXPECT_TRUE(std::any_of(a.dqkv.begin(), a.dqkv.end(), has_gradient));
    }
  }
}

// Tiles have 64 tokens. NaN in a document reaches the tiles that it has a part in, and no other.
TYPED_TEST(DocumentAttentionCudaTest, NoTileOutsideOfThemIsVisited) {
  const auto finite = [](const TypeParam* x, int64_t count) {
    return std::all_of(x, x + count,
                       [](TypeParam v) { return std::isfinite(static_cast<float>(v)); });
  };
  AttentionProblem<TypeParam> p({1, 320, 1, 1, 8}, GuardAt::kEnd, 1, {64, 128, 128});
  std::fill_n(&p.qkv[64 * 24], 128 * 24, TypeParam(NAN));
  ASSERT_EQ(p.Forward(), absl::OkStatus());
  ASSERT_EQ(p.Backward(), absl::OkStatus());
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 64}, {192, 320}}) {
    EXPECT_TRUE(finite(&p.y[begin * 8], (end - begin) * 8));
    EXPECT_TRUE(finite(&p.dqkv[begin * 24], (end - begin) * 24));
  }
  EXPECT_FALSE(finite(&p.y[64 * 8], 8));
}

// The caller checks positions. Those that are not valid give numbers without a meaning, and touch
// no memory outside of the tensors.
TYPED_TEST(DocumentAttentionCudaTest, WrongPositionsStayInsideTheTensors) {
  for (const int32_t wrong : {-1000000000, -1, 71, 1000000000}) {
    AttentionProblem<TypeParam> p({2, 70, 1, 1, 8, 100}, GuardAt::kEnd, 1, {70, 70});
    std::fill(p.positions.begin() + 30, p.positions.begin() + 100, wrong);
    EXPECT_EQ(p.Forward(), absl::OkStatus());
    EXPECT_EQ(p.Backward(), absl::OkStatus());
  }
}

TYPED_TEST(DocumentAttentionCudaTest, TheSameBitsInEveryOrderOfThreads) {
  AttentionProblem<TypeParam> p({1, 70, 2, 1, 20, 40, 0, 2}, GuardAt::kEnd, 1, {30, 1, 39});
  std::vector<TypeParam> y, dqkv;
  for (uint64_t seed = 0; seed < 3; ++seed) {
    std::optional<ScopedRandomCudaOrder> order;
    if (seed > 0) order.emplace(seed);
    ASSERT_EQ(p.Forward(), absl::OkStatus());
    ASSERT_EQ(p.Backward(), absl::OkStatus());
    if (seed == 0) {
      y = Copy(p.y);
      dqkv = Copy(p.dqkv);
    }
    EXPECT_TRUE(SameBits(p.y, y)) << seed;
    EXPECT_TRUE(SameBits(p.dqkv, dqkv)) << seed;
  }
}

// Another library computes these batches.
TYPED_TEST(DocumentAttentionCudaTest, RunsOnlyIfItIsTold) {
  AttentionProblem<TypeParam> p({1, 70, 2, 1, 8}, GuardAt::kEnd, 1, {30, 40});
  GuardedBuffer<int32_t> only_if("only_if", 1, GuardAt::kEnd);
  p.only_if = only_if.data();
  std::fill(p.y.begin(), p.y.end(), TypeParam(7.f));
  std::fill(p.dqkv.begin(), p.dqkv.end(), TypeParam(7.f));
  const auto is_left = [](TypeParam x) { return static_cast<float>(x) == 7; };
  only_if[0] = 0;
  ASSERT_EQ(p.Forward(), absl::OkStatus());
  ASSERT_EQ(p.Backward(), absl::OkStatus());
  EXPECT_TRUE(std::all_of(p.y.begin(), p.y.end(), is_left));
  EXPECT_TRUE(std::all_of(p.dqkv.begin(), p.dqkv.end(), is_left));
  only_if[0] = 1;
  CheckAttention(p);
}

// Ranges of documents by a loop over their lengths.
struct RangesProblem {
  static constexpr int kGroupSize = 3, kNumGroups = 2, kLengthStride = 4, kOffsetStride = 6;
  static constexpr int64_t kFused = 4 * 8, kOutput = 2 * 8;  // elements of rows

  RangesProblem() { std::fill(positions.begin(), positions.end(), 0); }

  // Of two sequences.
  absl::Status Launch(int64_t seq_len) {
    shape.seq_len = seq_len;
    return cuda::DocumentRanges(
        nullptr, {positions.data(), shape, kNumGroups, kGroupSize, kLengthStride, kOffsetStride,
                  lengths.data(), fused.data(), output.data(), lse.data(), overflow.data()});
  }

  void Run(const DocumentLengths& documents, int64_t seq_len) {
    int32_t* at = positions.data();
    for (const int64_t length : documents) {
      std::iota(at, at + length, 0);
      at += length;
    }
    ASSERT_EQ(Launch(seq_len), absl::OkStatus());
  }

  void ExpectEntry(int64_t group, int64_t i, int64_t token) {
    const int64_t at = group * kOffsetStride + i, seq_len = shape.seq_len;
    EXPECT_EQ(fused[at], token * kFused);
    EXPECT_EQ(output[at], token * kOutput);
    EXPECT_EQ(lse[at], token / seq_len * 2 * seq_len + token % seq_len);
  }

  // All entries, of which `documents` are the first.
  void ExpectRanges(const DocumentLengths& documents) {
    int64_t token = documents.empty() ? 2 * shape.seq_len : 0;
    for (int64_t d = 0; d < kGroupSize * kNumGroups; ++d) {
      SCOPED_TRACE(d);
      const int64_t group = d / kGroupSize, i = d % kGroupSize;
      const int64_t length = d < documents.size() ? documents[d] : 0;
      EXPECT_EQ(lengths[group * kLengthStride + i], length);
      ExpectEntry(group, i, token);
      token += length;
      if (i == kGroupSize - 1) ExpectEntry(group, kGroupSize, token);
    }
  }

  AttentionShape shape = {2, 0, 2, 1, 8};
  GuardedBuffer<int32_t> positions{"positions", 2 * 1500, GuardAt::kEnd};
  GuardedBuffer<int32_t> lengths{"lengths", kNumGroups* kLengthStride, GuardAt::kEnd};
  GuardedBuffer<int32_t> overflow{"overflow", 1, GuardAt::kEnd};
  GuardedBuffer<int64_t> fused{"fused", kNumGroups* kOffsetStride, GuardAt::kEnd};
  GuardedBuffer<int64_t> output{"output", kNumGroups* kOffsetStride, GuardAt::kEnd};
  GuardedBuffer<int64_t> lse{"lse", kNumGroups* kOffsetStride, GuardAt::kEnd};
};

// A thread has at most one token of 70, and three of 3000.
TEST(DocumentRangesTest, AreThoseOfTheLengths) {
  for (const auto& [seq_len, lengths] : {std::pair<int64_t, DocumentLengths>{35, {35, 35}},
                                         {35, {1, 34, 35}},
                                         {35, {12, 23, 34, 1}},
                                         {35, {1, 1, 33, 1, 1, 33}},
                                         {1500, {1499, 1, 750, 749, 1}}}) {
    SCOPED_TRACE(seq_len);
    RangesProblem p;
    p.Run(lengths, seq_len);
    EXPECT_EQ(p.overflow[0], 0);
    p.ExpectRanges(lengths);
  }
}

TEST(DocumentRangesTest, AreEmptyWhereThereAreMore) {
  RangesProblem p;
  p.Run({1, 1, 33, 1, 1, 1, 32}, 35);
  EXPECT_EQ(p.overflow[0], 1);
  p.ExpectRanges({});
}

TEST(DocumentRangesTest, OfWrongPositionsStayInTheSequences) {
  RangesProblem p;
  std::fill(p.positions.begin(), p.positions.end(), -5);
  ASSERT_EQ(p.Launch(35), absl::OkStatus());
  p.ExpectRanges({35, 35});
}

}  // namespace
}  // namespace strake
