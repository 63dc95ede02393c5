// The gradient of a bias beside that of a weight, on a GPU.

#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/ops/matmul/matmul.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::CopyConvert;
using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::FillNormal;
using testing::MaxAbs;
using testing::RelativeError;
using testing::TestContext;
using testing::TestTensor;
using testing::UnitRoundoff;

// The truth is in f64. Sums round as products of that depth do.
void ExpectSumsFollowF64(DType dtype, bool of_a, bool accumulate) {
  constexpr int64_t kTokens = 70, kIn = 16, kOut = 24;
  SCOPED_TRACE(absl::StrCat(DTypeName(dtype), ", of a: ", of_a, ", accumulate: ", accumulate));
  const Shape shape = of_a ? Shape{kOut, kIn} : Shape{kIn, kOut};
  TestTensor x(dtype, {kTokens, kIn}), dy(dtype, {kTokens, kOut}), dw(DType::kF32, shape),
      sums(DType::kF32, {kOut});
  TestTensor x64(DType::kF64, x->shape()), dy64(DType::kF64, dy->shape()), dw64(DType::kF64, shape),
      sums64(DType::kF64, {kOut});
  uint64_t seed = 1;
  for (const auto& [from, to] :
       {std::pair<Tensor, Tensor>{x, x64}, {dy, dy64}, {dw, dw64}, {sums, sums64}}) {
    FillNormal(from, seed++);
    CopyConvert(from, to);
  }
  const auto run = [&](const Context& ctx, const Tensor& input, const Tensor& grad,
                       const Tensor& sum, const Tensor& weight_grad) {
    const MatmulOptions options = {.transpose_a = true,
                                   .accumulate = accumulate,
                                   .a_sums = of_a ? sum : Tensor(),
                                   .b_sums = of_a ? Tensor() : sum};
    return of_a ? Matmul(ctx, grad, input, options, weight_grad)
                : Matmul(ctx, input, grad, options, weight_grad);
  };
  ASSERT_TRUE(run(TestContext(), x64, dy64, sums64, dw64).ok());
  const CudaTestContext ctx;
  const CudaTestTensor gpu_x(x), gpu_dy(dy), gpu_sums(sums), gpu_dw(dw);
  const absl::Status status = run(ctx, gpu_x, gpu_dy, gpu_sums, gpu_dw);
  ASSERT_TRUE(status.ok()) << status;
  const double tolerance = 4 * (std::sqrt(kTokens) + 4) * UnitRoundoff(DType::kF32);
  EXPECT_GT(MaxAbs(sums64), 1);
  EXPECT_LE(RelativeError(gpu_sums.ToHost(), sums64), tolerance);
  EXPECT_LE(RelativeError(gpu_dw.ToHost(), dw64), tolerance);
}

TEST(MatmulSumsCudaTest, FollowF64) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const bool of_a : {false, true}) {
      for (const bool accumulate : {false, true}) ExpectSumsFollowF64(dtype, of_a, accumulate);
    }
  }
}

}  // namespace
}  // namespace strake
