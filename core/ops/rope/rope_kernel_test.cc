// The CUDA kernel of RoPE, under the emulator and on a GPU, against the reference in f64.
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/rope/rope_cuda.h"
#include "core/ops/rope/rope_reference.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::Copy;
using testing::ExpectEachNear;
using testing::FillNormal;
using testing::GuardAt;
using testing::GuardedBuffer;
using testing::kRoundoff;
using testing::SameBits;
using testing::ScopedRandomCudaOrder;
using testing::ToDouble;

template <typename T>
class RopeCudaTest : public ::testing::Test {};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(RopeCudaTest, Types);

struct Case {
  int64_t head_dim, num_heads, seq_len, position_offset, tokens, stride;
};

// One head and none; head counts that do and do not fill a thread's four; more pairs than a block
// has threads; half heads and strides that are not a multiple of the vector width.
constexpr Case kCases[] = {
    {64, 3, 5, 0, 10, 3 * 64 + 64}, {128, 40, 4, 3, 4, 48 * 128}, {128, 5, 6, 2, 12, 5 * 128},
    {64, 4, 3, 0, 3, 4 * 64 + 1},   {2, 1, 4, 1, 8, 7},           {6, 9, 4, 0, 8, 60},
    {24, 2, 3, 1, 6, 64},           {64, 0, 3, 0, 3, 64},         {64, 3, 5, 0, 0, 192},
    {256, 37, 2, 5, 2, 37 * 256}};

constexpr int64_t kMorePositions = 2;  // than are used

template <typename T>
struct Problem {
  Problem(const Case& c, GuardAt guard_at)
      : c(c),
        table("table", (c.position_offset + c.seq_len + kMorePositions) * c.head_dim, guard_at),
        x("x", c.tokens * c.stride, guard_at) {
    // Not only rotations, so that a wrong row or half shows wherever it is.
    for (size_t i = 0; i < table.size(); ++i) table[i] = std::cos(0.7 + 1.3 * i);
    FillNormal(x, 1);
  }
  absl::Status Run(bool inverse) {
    return cuda::Rope<T>(nullptr, {.table = table.data(),
                                   .head_dim = c.head_dim,
                                   .num_heads = c.num_heads,
                                   .seq_len = c.seq_len,
                                   .position_offset = c.position_offset,
                                   .inverse = inverse,
                                   .tokens = c.tokens,
                                   .stride = c.stride,
                                   .x = x.data()});
  }

  Case c;
  GuardedBuffer<double> table;
  GuardedBuffer<T> x;
};

// The error of two products of factors below 5 and 1: the rounding of the result, and those of the
// angles, of the products and of the sum. Elements that are not rotated keep their bits.
template <typename T>
void ExpectReference(const Problem<T>& p, std::vector<double> truth, bool inverse) {
  const Case& c = p.c;
  const std::vector<double> before = truth;
  reference::Rope<double>({.table = p.table.data(),
                           .head_dim = c.head_dim,
                           .num_heads = c.num_heads,
                           .seq_len = c.seq_len,
                           .position_offset = c.position_offset,
                           .inverse = inverse,
                           .tokens = c.tokens,
                           .stride = c.stride,
                           .x = truth.data()},
                          0, c.tokens);
  const std::vector<double> got = ToDouble(p.x);
  ExpectEachNear(got, truth, kRoundoff<T>, 2 * 5 * 3 * 0x1p-24, "x");
  for (size_t i = 0; i < got.size(); ++i) {
    const bool rotated = static_cast<int64_t>(i % c.stride) < c.num_heads * c.head_dim;
    if (rotated) continue;
    ASSERT_EQ(got[i], before[i]) << i;
  }
}

TYPED_TEST(RopeCudaTest, FollowsTheReference) {
  for (const Case& c : kCases) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      for (const bool inverse : {false, true}) {
        SCOPED_TRACE(::testing::Message()
                     << c.num_heads << " heads of " << c.head_dim << ", inverse " << inverse);
        Problem<TypeParam> p(c, guard_at);
        const std::vector<double> before = ToDouble(p.x);
        ASSERT_EQ(p.Run(inverse), absl::OkStatus());
        ExpectReference(p, before, inverse);
      }
    }
  }
}

TYPED_TEST(RopeCudaTest, EitherTensorMayBeUnaligned) {
  for (int unaligned = 0; unaligned < 2; ++unaligned) {
    Problem<TypeParam> p({64, 3, 4, 0, 4, 256}, GuardAt::kStart);
    std::vector<double> truth = ToDouble(p.x);
    const int table_at = unaligned == 0, x_at = unaligned == 1;
    ASSERT_EQ(cuda::Rope<TypeParam>(nullptr, {.table = p.table.data() + table_at,
                                              .head_dim = 64,
                                              .num_heads = 3,
                                              .seq_len = 4,
                                              .position_offset = 0,
                                              .inverse = false,
                                              .tokens = 3,
                                              .stride = 256,
                                              .x = p.x.data() + x_at}),
              absl::OkStatus());
    reference::Rope<double>({.table = p.table.data() + table_at,
                             .head_dim = 64,
                             .num_heads = 3,
                             .seq_len = 4,
                             .position_offset = 0,
                             .inverse = false,
                             .tokens = 3,
                             .stride = 256,
                             .x = truth.data() + x_at},
                            0, 3);
    ExpectEachNear(ToDouble(p.x), truth, kRoundoff<TypeParam>, 2 * 5 * 3 * 0x1p-24, "x");
  }
}

TYPED_TEST(RopeCudaTest, TheSameBitsInEveryOrderOfThreads) {
  for (const Case& c : {kCases[1], kCases[5]}) {
    Problem<TypeParam> p(c, GuardAt::kStart);
    ASSERT_EQ(p.Run(false), absl::OkStatus());
    const std::vector<TypeParam> rotated = Copy(p.x);
    for (uint64_t seed = 1; seed < 3; ++seed) {
      const ScopedRandomCudaOrder order(seed);
      FillNormal(p.x, 1);
      ASSERT_EQ(p.Run(false), absl::OkStatus());
      EXPECT_TRUE(SameBits(p.x, rotated)) << seed;
    }
  }
}

}  // namespace
}  // namespace strake
