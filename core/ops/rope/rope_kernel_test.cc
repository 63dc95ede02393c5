// The CUDA kernel of RoPE, under the emulator and on a GPU, against the reference in f64.
#include <algorithm>
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
  int64_t rotary_dim, head_dim, num_heads, seq_len, position_offset, tokens, stride;
};

// One head and none; head counts that do and do not fill a thread's four; more pairs than a block
// has threads; half heads, heads and strides that are not a multiple of the vector width; a part of
// each head, and none of it.
constexpr Case kCases[] = {{64, 64, 3, 5, 0, 10, 3 * 64 + 64},
                           {128, 128, 40, 4, 3, 4, 48 * 128},
                           {128, 128, 5, 6, 2, 12, 5 * 128},
                           {64, 64, 4, 3, 0, 3, 4 * 64 + 1},
                           {2, 2, 1, 4, 1, 8, 7},
                           {6, 6, 9, 4, 0, 8, 60},
                           {24, 24, 2, 3, 1, 6, 64},
                           {64, 64, 0, 3, 0, 3, 64},
                           {64, 64, 3, 5, 0, 0, 192},
                           {256, 256, 37, 2, 5, 2, 37 * 256},
                           {16, 64, 5, 4, 1, 8, 6 * 64},
                           {32, 40, 3, 3, 0, 3, 128},
                           {16, 18, 4, 3, 0, 3, 4 * 18},
                           {6, 20, 2, 3, 2, 6, 40},
                           {0, 32, 2, 3, 0, 3, 64}};

constexpr int64_t kMorePositions = 2;  // than are used

// How a kernel, or the reference, is called for a case.
struct Mode {
  bool interleaved, transposed;
};
constexpr Mode kModes[] = {{false, false}, {false, true}, {true, false}, {true, true}};

template <typename T>
RopeArgs<T> ArgsOf(const Case& c, Mode mode, const double* table, T* x) {
  return {.table = table,
          .rotary_dim = c.rotary_dim,
          .head_dim = c.head_dim,
          .num_heads = c.num_heads,
          .seq_len = c.seq_len,
          .position_offset = c.position_offset,
          .interleaved = mode.interleaved,
          .transposed = mode.transposed,
          .tokens = c.tokens,
          .stride = c.stride,
          .x = x};
}

template <typename T>
struct Problem {
  Problem(const Case& c, GuardAt guard_at)
      : c(c),
        table("table", (c.position_offset + c.seq_len + kMorePositions) * c.rotary_dim, guard_at),
        x("x", c.tokens * c.stride, guard_at) {
    // Not only rotations, so that a wrong row or half shows wherever it is.
    for (size_t i = 0; i < table.size(); ++i) table[i] = std::cos(0.7 + 1.3 * i);
    FillNormal(x, 1);
  }
  absl::Status Run(Mode mode) {
    return cuda::Rope<T>(nullptr, ArgsOf(c, mode, table.data(), x.data()));
  }

  Case c;
  GuardedBuffer<double> table;
  GuardedBuffer<T> x;
};

// The error of two products of factors below 5 and 1: the rounding of the result, and those of the
// angles, of the products and of the sum.
constexpr double kAbsoluteError = 2 * 5 * 3 * 0x1p-24;

// Elements that are not rotated keep their bits.
template <typename T>
void ExpectReference(const Problem<T>& p, std::vector<double> truth, Mode mode) {
  const Case& c = p.c;
  const std::vector<double> before = truth;
  reference::Rope<double>(ArgsOf(c, mode, p.table.data(), truth.data()), 0, c.tokens);
  const std::vector<double> got = ToDouble(p.x);
  ExpectEachNear(got, truth, kRoundoff<T>, kAbsoluteError, "x");
  for (size_t i = 0; i < got.size(); ++i) {
    const int64_t column = i % c.stride;
    if (column < c.num_heads * c.head_dim && column % c.head_dim < c.rotary_dim) continue;
    ASSERT_EQ(got[i], before[i]) << i;
  }
}

TYPED_TEST(RopeCudaTest, FollowsTheReference) {
  for (const Case& c : kCases) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      for (const Mode mode : kModes) {
        SCOPED_TRACE(::testing::Message()
                     << c.num_heads << " heads of " << c.head_dim << ", rotated " << c.rotary_dim
                     << ", interleaved " << mode.interleaved << ", transposed " << mode.transposed);
        Problem<TypeParam> p(c, guard_at);
        const std::vector<double> before = ToDouble(p.x);
        ASSERT_EQ(p.Run(mode), absl::OkStatus());
        ExpectReference(p, before, mode);
      }
    }
  }
}

// Positions in any order; one outside at either end makes its token's features NaN.
TYPED_TEST(RopeCudaTest, FollowsGivenPositions) {
  constexpr int64_t kTokens = 6, kPositions = 5, kOutside[] = {1, 4};
  for (Case c : {Case{64, 64, 3, 6, 0, kTokens, 256}, {6, 20, 2, 6, 0, kTokens, 40}}) {
    for (const Mode mode : kModes) {
      Problem<TypeParam> p(c, GuardAt::kEnd);
      GuardedBuffer<int32_t> positions("positions", kTokens, GuardAt::kEnd);
      const int32_t values[] = {4, kPositions, 0, 4, -1, 2};
      std::copy_n(values, kTokens, positions.data());
      std::vector<double> truth = ToDouble(p.x);
      RopeArgs<TypeParam> args = ArgsOf(c, mode, p.table.data(), p.x.data());
      args.positions = positions.data();
      args.num_positions = kPositions;
      ASSERT_EQ(cuda::Rope<TypeParam>(nullptr, args), absl::OkStatus());
      for (const int64_t n : kOutside) {
        for (int64_t i = 0; i < c.num_heads * c.rotary_dim; ++i) {
          TypeParam& x = p.x[n * c.stride + i / c.rotary_dim * c.head_dim + i % c.rotary_dim];
          ASSERT_TRUE(std::isnan(static_cast<float>(x))) << n << ", " << i;
          x = TypeParam(static_cast<float>(
              truth[n * c.stride + i / c.rotary_dim * c.head_dim + i % c.rotary_dim]));
        }
      }
      RopeArgs<double> expected = ArgsOf(c, mode, p.table.data(), truth.data());
      expected.positions = positions.data();
      for (const int64_t n : {0, 2, 3, 5}) reference::Rope(expected, n, n + 1);
      ExpectEachNear(ToDouble(p.x), truth, kRoundoff<TypeParam>, kAbsoluteError, "x");
    }
  }
}

TYPED_TEST(RopeCudaTest, EitherTensorMayBeUnaligned) {
  for (const bool interleaved : {false, true}) {
    for (int unaligned = 0; unaligned < 2; ++unaligned) {
      Problem<TypeParam> p({64, 64, 3, 4, 0, 4, 256}, GuardAt::kStart);
      std::vector<double> truth = ToDouble(p.x);
      const int table_at = unaligned == 0, x_at = unaligned == 1;
      const double* const table = p.table.data() + table_at;
      const Mode mode = {.interleaved = interleaved, .transposed = false};
      Case c = p.c;
      c.tokens = 3;
      ASSERT_EQ(cuda::Rope<TypeParam>(nullptr, ArgsOf(c, mode, table, p.x.data() + x_at)),
                absl::OkStatus());
      reference::Rope<double>(ArgsOf(c, mode, table, truth.data() + x_at), 0, c.tokens);
      ExpectEachNear(ToDouble(p.x), truth, kRoundoff<TypeParam>, kAbsoluteError, "x");
    }
  }
}

TYPED_TEST(RopeCudaTest, TheSameBitsInEveryOrderOfThreads) {
  for (const Case& c : {kCases[1], kCases[5], kCases[10]}) {
    for (const bool interleaved : {false, true}) {
      const Mode mode = {.interleaved = interleaved, .transposed = false};
      Problem<TypeParam> p(c, GuardAt::kStart);
      ASSERT_EQ(p.Run(mode), absl::OkStatus());
      const std::vector<TypeParam> rotated = Copy(p.x);
      for (uint64_t seed = 1; seed < 3; ++seed) {
        const ScopedRandomCudaOrder order(seed);
        FillNormal(p.x, 1);
        ASSERT_EQ(p.Run(mode), absl::OkStatus());
        EXPECT_TRUE(SameBits(p.x, rotated)) << seed;
      }
    }
  }
}

}  // namespace
}  // namespace strake
