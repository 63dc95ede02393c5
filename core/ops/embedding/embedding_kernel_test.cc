// The CUDA kernels of the embedding, under the emulator and on a GPU, against the reference. All
// values are small integers: sums are exact in any order, and bits are compared.
#include <cmath>
#include <optional>
#include <vector>

#include "core/base/philox.h"
#include "core/ops/embedding/embedding_cuda.h"
#include "core/ops/embedding/embedding_reference.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::Copy;
using testing::FillNormal;
using testing::FillSmallIntegers;
using testing::GuardAt;
using testing::GuardedBuffer;
using testing::SameBits;
using testing::ScopedRandomCudaOrder;
using testing::ToDouble;

struct Size {
  int64_t tokens, rows, columns;
  VocabSlice slice;
};

template <typename T>
struct Problem {
  Problem(const Size& size, GuardAt guard_at)
      : size(size),
        tokens("tokens", size.tokens, guard_at),
        table("table", size.rows * size.columns, guard_at),
        y("y", size.tokens * size.columns, guard_at),
        dtable("dtable", table.size(), guard_at),
        workspace("workspace", cuda::EmbeddingBackwardWorkspaceBytes(size.tokens, size.columns),
                  guard_at) {
    // Half of the tokens are equal, and half of the rest are one of a few, so that runs have every
    // length.
    const Philox philox(1, RandomUse::kTesting);
    for (int64_t n = 0; n < size.tokens; ++n) {
      const uint64_t bits = philox.Bits(n);
      const int64_t among = bits % 4 < 2 ? 1 : bits % 4 == 2 ? 11 : size.slice.vocab_size;
      tokens[n] = (size.slice.begin + (bits >> 8) % among) % size.slice.vocab_size;
    }
    FillSmallIntegers(table, 1);
    FillSmallIntegers(dtable, 2);
  }

  absl::Status Forward() {
    return cuda::EmbeddingForward<T>(nullptr, {.tokens = tokens.data(),
                                               .num_tokens = size.tokens,
                                               .slice = size.slice,
                                               .table = table.data(),
                                               .table_rows = size.rows,
                                               .columns = size.columns,
                                               .y = y.data()});
  }

  absl::Status Backward(const T* dy) {
    return cuda::EmbeddingBackward<T>(nullptr, {.dy = dy,
                                                .tokens = tokens.data(),
                                                .num_tokens = size.tokens,
                                                .slice = size.slice,
                                                .table_rows = size.rows,
                                                .columns = size.columns,
                                                .dtable = dtable.data(),
                                                .workspace = workspace.data()});
  }

  Size size;
  GuardedBuffer<int32_t> tokens;
  GuardedBuffer<T> table, y;
  GuardedBuffer<float> dtable;
  GuardedBuffer<unsigned char> workspace;
};

template <typename T>
class EmbeddingCudaTest : public ::testing::Test {};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(EmbeddingCudaTest, Types);

// Table rows of one, two and three digits of the sort; several tiles of it; a single token; slices,
// one with padding and one of padding only.
const Size kSizes[] = {{1, 1, 1, {1}},
                       {0, 5, 8, {5}},
                       {64, 1, 8, {1}},
                       {65, 7, 3, {7}},
                       {300, 50, 40, {50}},
                       {127, 30, 1040, {30}},
                       {4100, 600, 8, {600}},
                       {200, 10, 16, {30, 10}},
                       {200, 16, 16, {30, 20}},
                       {100, 4, 8, {5, 8}},
                       {500, 300000, 1, {300000}}};

TYPED_TEST(EmbeddingCudaTest, ForwardFollowsTheReference) {
  for (const Size& size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      SCOPED_TRACE(::testing::Message() << size.tokens << " x " << size.columns << " of "
                                        << size.rows << ", guard " << static_cast<int>(guard_at));
      Problem<TypeParam> p(size, guard_at);
      ASSERT_EQ(p.Forward(), absl::OkStatus());
      std::vector<double> y(p.y.size());
      const std::vector<double> table = ToDouble(p.table);
      reference::EmbeddingForward<double>({.tokens = p.tokens.data(),
                                           .num_tokens = size.tokens,
                                           .slice = size.slice,
                                           .table = table.data(),
                                           .table_rows = size.rows,
                                           .columns = size.columns,
                                           .y = y.data()},
                                          0, size.tokens);
      EXPECT_EQ(ToDouble(p.y), y);
    }
  }
}

TYPED_TEST(EmbeddingCudaTest, BackwardAddsWhatTheReferenceAdds) {
  for (const Size& size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      SCOPED_TRACE(::testing::Message() << size.tokens << " x " << size.columns << " of "
                                        << size.rows << ", guard " << static_cast<int>(guard_at));
      Problem<TypeParam> p(size, guard_at);
      FillSmallIntegers(p.y, 3);
      const std::vector<double> dy = ToDouble(p.y);
      std::vector<double> dtable = ToDouble(p.dtable), row_sum(size.columns);
      std::vector<int32_t> order(size.tokens);
      SortByToken(p.tokens.data(), size.tokens, order.data());
      reference::EmbeddingBackward<double>({.dy = dy.data(),
                                            .tokens = p.tokens.data(),
                                            .num_tokens = size.tokens,
                                            .slice = size.slice,
                                            .table_rows = size.rows,
                                            .columns = size.columns,
                                            .dtable = dtable.data(),
                                            .order = order.data(),
                                            .row_sum = row_sum.data()},
                                           0, size.columns);
      ASSERT_EQ(p.Backward(p.y.data()), absl::OkStatus());
      EXPECT_EQ(ToDouble(p.dtable), dtable);
    }
  }
}

TYPED_TEST(EmbeddingCudaTest, AnyTensorMayBeUnaligned) {
  const Size size = {80, 5, 16, {5}};
  for (int unaligned = 0; unaligned < 3; ++unaligned) {
    SCOPED_TRACE(unaligned);
    Problem<TypeParam> p(size, GuardAt::kStart);
    const auto at = [&](const auto& buffer, int i) { return buffer.data() + (i == unaligned); };
    ASSERT_EQ(cuda::EmbeddingForward<TypeParam>(nullptr, {.tokens = p.tokens.data(),
                                                          .num_tokens = 79,
                                                          .slice = size.slice,
                                                          .table = at(p.table, 0),
                                                          .table_rows = 4,
                                                          .columns = 16,
                                                          .y = at(p.y, 1)}),
              absl::OkStatus());
    ASSERT_EQ(cuda::EmbeddingBackward<TypeParam>(nullptr, {.dy = at(p.y, 1),
                                                           .tokens = p.tokens.data(),
                                                           .num_tokens = 79,
                                                           .slice = size.slice,
                                                           .table_rows = 4,
                                                           .columns = 16,
                                                           .dtable = at(p.dtable, 2),
                                                           .workspace = p.workspace.data()}),
              absl::OkStatus());
  }
}

// Nothing is read or written out of bounds, and the loss will be NaN.
TYPED_TEST(EmbeddingCudaTest, TokensOutsideOfTheVocabularyMakeNan) {
  Problem<TypeParam> p({6, 8, 8, {8}}, GuardAt::kStart);
  p.size.slice.vocab_size = 6;  // the last two rows are padding
  const int32_t tokens[] = {0, -1, 6, 2147483647, -2147483647 - 1, 5};
  std::copy(tokens, tokens + 6, p.tokens.begin());
  ASSERT_EQ(p.Forward(), absl::OkStatus());
  for (int n = 0; n < 6; ++n) {
    const bool valid = tokens[n] == 0 || tokens[n] == 5;
    for (int c = 0; c < 8; ++c) {
      EXPECT_EQ(std::isnan(static_cast<float>(p.y[n * 8 + c])), !valid) << n;
    }
  }
  const std::vector<double> before = ToDouble(p.dtable);
  FillSmallIntegers(p.y, 3);
  ASSERT_EQ(p.Backward(p.y.data()), absl::OkStatus());
  for (int row = 0; row < 8; ++row) {
    for (int c = 0; c < 8; ++c) {
      double expected = before[row * 8 + c];
      if (row == 0) expected += static_cast<float>(p.y[c]);
      if (row == 5) expected += static_cast<float>(p.y[5 * 8 + c]);
      EXPECT_EQ(p.dtable[row * 8 + c], expected) << row;
    }
  }
}

TYPED_TEST(EmbeddingCudaTest, TheSameBitsInEveryOrderOfThreads) {
  for (const Size& size : {Size{300, 20, 24, {20}}, Size{2100, 600, 1, {600}}}) {
    Problem<TypeParam> p(size, GuardAt::kStart);
    FillNormal(p.y, 3);
    std::vector<float> dtable;
    for (uint64_t seed = 0; seed < 3; ++seed) {
      std::optional<ScopedRandomCudaOrder> order;
      if (seed > 0) order.emplace(seed);
      FillNormal(p.dtable, 4);
      ASSERT_EQ(p.Backward(p.y.data()), absl::OkStatus());
      if (seed == 0) dtable = Copy(p.dtable);
      EXPECT_TRUE(SameBits(p.dtable, dtable)) << seed;
    }
  }
}

}  // namespace
}  // namespace strake
