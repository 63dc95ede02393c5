// Embedding and position embedding on a GPU, through the ops that dispatch to it.
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/embedding/embedding.h"
#include "core/ops/embedding/position_embedding.h"
#include "core/testing/cuda_parity.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::ExpectFollowsF64;
using testing::F32SumTolerance;
using testing::FillNormal;
using testing::GetElement;
using testing::ParityOperand;
using testing::TestTensor;
using testing::UnitRoundoff;
using Tensors = std::vector<Tensor>;

constexpr int64_t kVocabSize = 11;
constexpr std::pair<int64_t, int64_t> kSizes[] = {{37, 16}, {5, 7}, {0, 8}};  // tokens, columns

class EmbeddingCudaTest : public ::testing::TestWithParam<DType> {
 protected:
  ParityOperand In(const Shape& shape) const { return {shape, GetParam()}; }
  ParityOperand Sum(const Shape& shape, int64_t num_terms) const {
    return {shape, DType::kF32, F32SumTolerance(num_terms)};
  }
};

// The whole vocabulary, and a slice of it.
TEST_P(EmbeddingCudaTest, Embedding) {
  for (const auto& [n, c] : kSizes) {
    for (const auto& [rows, begin] : {std::pair<int64_t, int64_t>{kVocabSize, 0}, {5, 3}}) {
      SCOPED_TRACE(::testing::Message() << n << " x " << c << " from " << rows);
      const VocabSlice slice = {.vocab_size = kVocabSize, .begin = begin};
      const ParityOperand tokens = {{n}, DType::kI32, 0, kVocabSize};
      ExpectFollowsF64({tokens, In({rows, c}), In({n, c})},
                       [&](const Context& ctx, const Tensors& t) {
                         return EmbeddingForward(ctx, t[0], slice, t[1], t[2]);
                       });
      ExpectFollowsF64({In({n, c}), tokens, Sum({rows, c}, n)},
                       [&](const Context& ctx, const Tensors& t) {
                         return EmbeddingBackward(ctx, t[0], t[1], slice, t[2]);
                       });
    }
  }
}

TEST_P(EmbeddingCudaTest, PositionEmbedding) {
  for (const auto& [n, c] : kSizes) {
    SCOPED_TRACE(::testing::Message() << n << " x " << c);
    const ParityOperand y = {{n, c}, GetParam(), UnitRoundoff(GetParam())};
    ExpectFollowsF64({In({9, c}), y}, [](const Context& ctx, const Tensors& t) {
      return PositionEmbeddingForward(ctx, t[0], /*period=*/6, /*offset=*/4, t[1]);
    });
    ExpectFollowsF64({In({n, c}), Sum({9, c}, n)}, [](const Context& ctx, const Tensors& t) {
      return PositionEmbeddingBackward(ctx, t[0], /*period=*/6, /*offset=*/4, t[1]);
    });
    const ParityOperand given = {{n}, DType::kI32, 0, /*num_tokens=*/9};
    ExpectFollowsF64({In({9, c}), y, given}, [](const Context& ctx, const Tensors& t) {
      return PositionEmbeddingForward(ctx, t[0], /*period=*/6, /*offset=*/0, t[1], t[2]);
    });
    ExpectFollowsF64({In({n, c}), Sum({9, c}, n), given}, [](const Context& ctx, const Tensors& t) {
      return PositionEmbeddingBackward(ctx, t[0], /*period=*/6, /*offset=*/0, t[1], t[2]);
    });
  }
}

// Tests the contract of embedding.h.
TEST_P(EmbeddingCudaTest, TokensOutsideOfTheVocabularyGiveNan) {
  const CudaTestContext ctx;
  TestTensor tokens(DType::kI32, {3}), table(GetParam(), {kVocabSize, 8});
  const int32_t values[] = {2, kVocabSize, -1};
  for (int n = 0; n < 3; ++n) tokens->data<int32_t>()[n] = values[n];
  FillNormal(table, 1);
  EXPECT_FALSE(CheckTokens(tokens, kVocabSize).ok());
  const CudaTestTensor on_gpu(tokens), table_on_gpu(table), y(GetParam(), {3, 8});
  ASSERT_TRUE(EmbeddingForward(ctx, on_gpu, {.vocab_size = kVocabSize}, table_on_gpu, y).ok());
  const HostCopy result = y.ToHost();
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(GetElement(result, i), GetElement(table, 2 * 8 + i));
    EXPECT_TRUE(std::isnan(GetElement(result, 8 + i).real()));
    EXPECT_TRUE(std::isnan(GetElement(result, 16 + i).real()));
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, EmbeddingCudaTest, ::testing::Values(DType::kF32, DType::kBf16),
                         [](const auto& info) { return DTypeName(info.param); });

}  // namespace
}  // namespace strake
