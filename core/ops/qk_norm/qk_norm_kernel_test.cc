// The CUDA kernels of QkNorm, under the emulator and on a GPU, against the reference in f64.
#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/qk_norm/qk_norm_cuda.h"
#include "core/ops/qk_norm/qk_norm_reference.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::Copy;
using testing::ExpectNear;
using testing::FillNormal;
using testing::GuardAt;
using testing::GuardedBuffer;
using testing::kRoundoff;
using testing::SameBits;
using testing::ScopedRandomCudaOrder;
using testing::SumBound;
using testing::ToDouble;

constexpr double kEps = 1e-5, kOffset = 1;

struct Size {
  bool whole;
  int64_t rows, num_heads, num_kv_heads, head_dim;

  int64_t QueryColumns() const { return whole ? num_heads * head_dim : head_dim; }
  int64_t KeyColumns() const { return whole ? num_kv_heads * head_dim : head_dim; }
  int64_t NumGroups() const { return whole ? 2 : num_heads + num_kv_heads; }
  int64_t NumNormalized() const { return (num_heads + num_kv_heads) * head_dim; }
  int64_t NumColumns() const { return NumNormalized() + num_kv_heads * head_dim; }

  template <typename T>
  QkNormPart<T> Query(const T* weight) const {
    return {0, 0, whole ? 1 : num_heads, QueryColumns(), weight};
  }
  template <typename T>
  QkNormPart<T> Key(const T* weight) const {
    return {num_heads * head_dim, whole ? 1 : num_heads, whole ? 1 : num_kv_heads, KeyColumns(),
            weight};
  }
};

template <typename T, typename Stat>
QkNormForwardArgs<T, Stat> ForwardArgs(const Size& s, T* qkv, const T* query, const T* key, T* raw,
                                       Stat* rstd, const Stat* sums, int num_ranks) {
  return {.parts = {s.Query(query), s.Key(key)},
          .rows = s.rows,
          .columns = s.NumColumns(),
          .num_normalized = s.NumNormalized(),
          .num_groups = s.NumGroups(),
          .num_ranks = num_ranks,
          .eps = kEps,
          .weight_offset = kOffset,
          .sums = sums,
          .qkv = qkv,
          .raw = raw,
          .rstd = rstd};
}

template <typename T, typename Stat>
QkNormBackwardArgs<T, Stat> BackwardArgs(const Size& s, T* dqkv, const T* query, const T* key,
                                         const T* raw, const Stat* rstd, const Stat* sums,
                                         int num_ranks, Stat* dquery, Stat* dkey) {
  return {.parts = {s.Query(query), s.Key(key)},
          .rows = s.rows,
          .columns = s.NumColumns(),
          .num_normalized = s.NumNormalized(),
          .num_groups = s.NumGroups(),
          .num_ranks = num_ranks,
          .weight_offset = kOffset,
          .raw = raw,
          .rstd = rstd,
          .sums = sums,
          .dqkv = dqkv,
          .dweights = {dquery, dkey}};
}

// Buffers of one problem. They end at a guard page, where odd sizes are unaligned, or start at one,
// where all are aligned.
template <typename T>
struct Problem {
  Problem(const Size& s, GuardAt guard_at)
      : size(s),
        qkv("qkv", s.rows * s.NumColumns(), guard_at),
        raw("raw", s.rows * s.NumNormalized(), guard_at),
        dqkv("dqkv", s.rows * s.NumColumns(), guard_at),
        query("query", s.QueryColumns(), guard_at),
        key("key", s.KeyColumns(), guard_at),
        rstd("rstd", s.rows * s.NumGroups(), guard_at),
        sums("sums", s.rows * 2, guard_at),
        dquery("dquery", s.QueryColumns(), guard_at),
        dkey("dkey", s.KeyColumns(), guard_at),
        workspace("workspace",
                  cuda::QkNormBackwardWorkspaceSize(s.rows, s.QueryColumns() + s.KeyColumns()),
                  guard_at) {
    Refill();
    FillNormal(query, 3, 0.3f);
    FillNormal(key, 4, 0.3f);
  }

  void Refill() {
    FillNormal(qkv, 1);
    FillNormal(dqkv, 2);
    std::fill(dquery.begin(), dquery.end(), 0.f);
    std::fill(dkey.begin(), dkey.end(), 0.f);
  }

  absl::Status Forward(const float* given = nullptr, int num_ranks = 1) {
    return cuda::QkNormForward<T>(
        nullptr, ForwardArgs<T, float>(size, qkv.data(), query.data(), key.data(), raw.data(),
                                       rstd.data(), given, num_ranks));
  }
  absl::Status Backward(const float* given = nullptr, int num_ranks = 1) {
    auto args = BackwardArgs<T, float>(size, dqkv.data(), query.data(), key.data(), raw.data(),
                                       rstd.data(), given, num_ranks, dquery.data(), dkey.data());
    args.workspace = workspace.data();
    return cuda::QkNormBackward<T>(nullptr, args);
  }
  // Those of the forward pass, or of the backward pass.
  absl::Status Sums(bool backward) {
    return cuda::QkNormSums<T>(nullptr, {.parts = {size.Query(query.data()), size.Key(key.data())},
                                         .rows = size.rows,
                                         .a = backward ? dqkv.data() : qkv.data(),
                                         .a_columns = size.NumColumns(),
                                         .b = backward ? raw.data() : nullptr,
                                         .b_columns = size.NumNormalized(),
                                         .weight_offset = kOffset,
                                         .sums = sums.data()});
  }

  Size size;
  GuardedBuffer<T> qkv, raw, dqkv, query, key;
  GuardedBuffer<float> rstd, sums, dquery, dkey, workspace;
};

template <typename T>
class QkNormCudaTest : public ::testing::Test {};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(QkNormCudaTest, Types);

// Heads of one element; of more vectors than a warp has lanes; more heads than a block has warps;
// projections that need several vectors per thread.
constexpr Size kSizes[] = {{false, 1, 1, 1, 1},  {false, 3, 2, 1, 7},   {false, 5, 4, 2, 64},
                           {false, 2, 11, 3, 8}, {false, 2, 2, 2, 300}, {false, 0, 2, 1, 8},
                           {true, 1, 1, 1, 1},   {true, 3, 2, 1, 7},    {true, 5, 4, 2, 64},
                           {true, 2, 9, 3, 300}, {true, 0, 2, 1, 8}};
// Several rows per block of the backward pass.
constexpr Size kManyRows[] = {{false, 1000, 3, 2, 8}, {true, 1000, 3, 2, 8}};

// `given`: with the sums of two ranks that hold the same heads.
template <typename T>
void CheckForward(Problem<T>& p, bool given) {
  const Size& s = p.size;
  std::vector<double> qkv = ToDouble(p.qkv), raw(p.raw.size()), rstd(p.rstd.size());
  const std::vector<double> query = ToDouble(p.query), key = ToDouble(p.key);
  const std::vector<T> before = Copy(p.qkv);
  std::vector<double> sums;
  if (given) {
    ASSERT_EQ(p.Sums(false), absl::OkStatus());
    sums = ToDouble(p.sums);
  }
  ASSERT_EQ(p.Forward(given ? p.sums.data() : nullptr, given ? 3 : 1), absl::OkStatus());
  reference::QkNormForward(
      ForwardArgs<double, double>(s, qkv.data(), query.data(), key.data(), raw.data(), rstd.data(),
                                  given ? sums.data() : nullptr, given ? 3 : 1),
      0, s.rows);
  ExpectNear(ToDouble(p.rstd), rstd, SumBound(s.QueryColumns()), "rstd");
  ExpectNear(ToDouble(p.qkv), qkv, SumBound(s.QueryColumns()) + kRoundoff<T>, "y");
  for (int64_t n = 0; n < s.rows; ++n) {
    for (int64_t c = 0; c < s.NumNormalized(); ++c) {
      ASSERT_EQ(static_cast<float>(p.raw[n * s.NumNormalized() + c]),
                static_cast<float>(before[n * s.NumColumns() + c]));
    }
  }
}

template <typename T>
void CheckBackward(Problem<T>& p, bool given) {
  const Size& s = p.size;
  std::vector<double> dqkv = ToDouble(p.dqkv), sums;
  const std::vector<double> query = ToDouble(p.query), key = ToDouble(p.key), raw = ToDouble(p.raw),
                            rstd = ToDouble(p.rstd);
  std::vector<double> dquery(p.dquery.size()), dkey(p.dkey.size());
  if (given) {
    ASSERT_EQ(p.Sums(true), absl::OkStatus());
    sums = ToDouble(p.sums);
  }
  ASSERT_EQ(p.Backward(given ? p.sums.data() : nullptr, given ? 3 : 1), absl::OkStatus());
  const auto args = BackwardArgs<double, double>(
      s, dqkv.data(), query.data(), key.data(), raw.data(), rstd.data(),
      given ? sums.data() : nullptr, given ? 3 : 1, dquery.data(), dkey.data());
  reference::QkNormBackwardWeight(args, 0, 0, s.QueryColumns());
  reference::QkNormBackwardWeight(args, 1, 0, s.KeyColumns());
  reference::QkNormBackwardInput(args, 0, s.rows);
  ExpectNear(ToDouble(p.dqkv), dqkv, SumBound(s.QueryColumns()) + kRoundoff<T>, "dx");
  if (s.rows == 0) return;
  const double terms = static_cast<double>(s.rows * s.num_heads);
  ExpectNear(ToDouble(p.dquery), dquery, SumBound(terms), "dquery");
  ExpectNear(ToDouble(p.dkey), dkey, SumBound(terms), "dkey");
}

template <typename T>
void Check(const Size& s, GuardAt guard_at) {
  Problem<T> p(s, guard_at);
  for (const bool given : {false, true}) {
    if (given && !s.whole) continue;
    SCOPED_TRACE(::testing::Message()
                 << (s.whole ? "whole " : "per head ") << s.rows << " x " << s.num_heads << ", "
                 << s.num_kv_heads << " x " << s.head_dim << ", given " << given << ", guard "
                 << static_cast<int>(guard_at));
    p.Refill();
    CheckForward(p, given);
    CheckBackward(p, given);
  }
}

TYPED_TEST(QkNormCudaTest, FollowsTheReference) {
  for (const Size& size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      Check<TypeParam>(size, guard_at);
    }
  }
  for (const Size& size : kManyRows) Check<TypeParam>(size, GuardAt::kStart);
}

TYPED_TEST(QkNormCudaTest, SumsFollowTheReference) {
  for (const Size& size : kSizes) {
    if (!size.whole || size.rows == 0) continue;
    Problem<TypeParam> p(size, GuardAt::kEnd);
    ASSERT_EQ(p.Forward(), absl::OkStatus());
    FillNormal(p.qkv, 1);
    for (const bool backward : {false, true}) {
      ASSERT_EQ(p.Sums(backward), absl::OkStatus());
      const std::vector<double> a = ToDouble(backward ? p.dqkv : p.qkv), b = ToDouble(p.raw),
                                query = ToDouble(p.query), key = ToDouble(p.key);
      std::vector<double> sums(p.sums.size());
      reference::QkNormSums<double>({.parts = {size.Query(query.data()), size.Key(key.data())},
                                     .rows = size.rows,
                                     .a = a.data(),
                                     .a_columns = size.NumColumns(),
                                     .b = backward ? b.data() : nullptr,
                                     .b_columns = size.NumNormalized(),
                                     .weight_offset = kOffset,
                                     .sums = sums.data()},
                                    0, size.rows);
      ExpectNear(ToDouble(p.sums), sums, SumBound(size.QueryColumns()), "sums");
    }
  }
}

// Column counts are a multiple of the vector width, but one tensor is at an unaligned address.
TYPED_TEST(QkNormCudaTest, AnyTensorMayBeUnaligned) {
  using T = TypeParam;
  const Size allocated = {true, 4, 2, 1, 40}, s = {true, 3, 2, 1, 32};
  for (int unaligned = 0; unaligned < 8; ++unaligned) {
    SCOPED_TRACE(unaligned);
    Problem<T> p(allocated, GuardAt::kStart);
    const auto at = [&](const auto& buffer, int i) { return buffer.data() + (i == unaligned); };
    ASSERT_EQ(cuda::QkNormForward<T>(
                  nullptr, ForwardArgs<T, float>(s, at(p.qkv, 0), at(p.query, 1), at(p.key, 2),
                                                 at(p.raw, 3), p.rstd.data(), nullptr, 1)),
              absl::OkStatus());
    auto args = BackwardArgs<T, float>(s, at(p.dqkv, 4), at(p.query, 1), at(p.key, 2), at(p.raw, 3),
                                       p.rstd.data(), nullptr, 1, at(p.dquery, 5), at(p.dkey, 6));
    args.workspace = at(p.workspace, 7);
    ASSERT_EQ(cuda::QkNormBackward<T>(nullptr, args), absl::OkStatus());
    EXPECT_TRUE(std::isfinite(static_cast<float>(at(p.dqkv, 4)[3 * s.NumColumns() - 1])));
  }
}

TYPED_TEST(QkNormCudaTest, TheSameBitsInEveryOrderOfThreads) {
  for (const Size& size : {Size{false, 3, 11, 3, 64}, Size{true, 3, 9, 3, 64}, kManyRows[0]}) {
    Problem<TypeParam> p(size, GuardAt::kStart);
    std::vector<TypeParam> y, dx;
    std::vector<float> dquery, dkey;
    for (uint64_t seed = 0; seed < 3; ++seed) {
      std::optional<ScopedRandomCudaOrder> order;
      if (seed > 0) order.emplace(seed);
      p.Refill();
      ASSERT_EQ(p.Forward(), absl::OkStatus());
      ASSERT_EQ(p.Backward(), absl::OkStatus());
      if (seed == 0) {
        y = Copy(p.qkv);
        dx = Copy(p.dqkv);
        dquery = Copy(p.dquery);
        dkey = Copy(p.dkey);
      }
      EXPECT_TRUE(SameBits(p.qkv, y)) << seed;
      EXPECT_TRUE(SameBits(p.dqkv, dx)) << seed;
      EXPECT_TRUE(SameBits(p.dquery, dquery)) << seed;
      EXPECT_TRUE(SameBits(p.dkey, dkey)) << seed;
    }
  }
}

}  // namespace
}  // namespace strake
