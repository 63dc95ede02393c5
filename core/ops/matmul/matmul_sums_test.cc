// The gradient of a bias beside that of a weight.
#include <tuple>

#include "core/ops/bias_add/bias_add.h"
#include "core/ops/matmul/matmul.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::FillNormal;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;

// The sums are those of bias_add's backward op, in each of their two forms and beside either
// product.
TEST(MatmulSumsTest, SumsAreThoseOfBiasAdd) {
  for (const auto& [op_set, dtype] : {std::tuple{OpSet::kReference, DType::kF32},
                                      {OpSet::kAuto, DType::kF32},
                                      {OpSet::kAuto, DType::kBf16}}) {
    const TestContext ctx(op_set);
    for (const auto& [tokens, in, out] : {std::tuple{7, 4, 9}, {1, 4, 9}, {0, 4, 9}, {7, 0, 9}}) {
      TestTensor x(dtype, {tokens, in}), dy(dtype, {tokens, out});
      FillNormal(x, 1);
      FillNormal(dy, 2);
      TestTensor expected(DType::kF32, {out}), sums(DType::kF32, {out}), dw(DType::kF32, {in, out}),
          product(DType::kF32, {in, out}), dwt(DType::kF32, {out, in});
      FillConstant(expected, 3);
      ASSERT_TRUE(BiasAddBackward(ctx, dy, expected).ok());
      ASSERT_TRUE(Matmul(ctx, x, dy, {.transpose_a = true}, product).ok());
      for (const bool of_a : {false, true}) {
        FillConstant(sums, 3);
        const MatmulOptions options = {.transpose_a = true,
                                       .a_sums = of_a ? sums : Tensor(),
                                       .b_sums = of_a ? Tensor() : sums};
        ASSERT_TRUE(
            (of_a ? Matmul(ctx, dy, x, options, dwt) : Matmul(ctx, x, dy, options, dw)).ok());
        EXPECT_TRUE(SameBits(sums, expected)) << tokens << " x " << in << ", of a: " << of_a;
      }
      EXPECT_TRUE(SameBits(dw, product));
    }
  }
}

TEST(MatmulSumsDeathTest, SumsThatDoNotFitAreNamed) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {2, 4}), dy(DType::kF32, {2, 5}), c(DType::kF32, {4, 5}),
      sums(DType::kF32, {5}), wrong(DType::kF32, {4});
  EXPECT_DEATH((void)Matmul(ctx, x, dy, {.transpose_a = true, .b_sums = wrong}, c),
               "b_sums f32\\[4\\]");
  EXPECT_DEATH((void)Matmul(ctx, x, dy, {.transpose_a = true, .a_sums = sums}, c),
               "a_sums f32\\[5\\]");
  EXPECT_DEATH((void)Matmul(ctx, x, dy, {.transpose_a = true, .bias = sums, .b_sums = sums}, c),
               "b_sums");
}

}  // namespace
}  // namespace strake
