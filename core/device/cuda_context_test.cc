#include "core/device/cuda_context.h"

#include <memory>
#include <vector>

#include "core/base/dtype.h"
#include "core/cuda/cublaslt.h"
#include "core/cuda/product_tuning.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

// 0 where a tuning leaves the GELU to another kernel.
int NumAlgorithms(const CudaProduct& gelu, const std::vector<ProductTuning>& tunings) {
  const auto cuda = CudaContext::Create(0, tunings);
  EXPECT_TRUE(cuda.ok()) << cuda.status();
  const auto answer = (*cuda)->cublaslt().NumAlgorithms(gelu);
  EXPECT_TRUE(answer.ok()) << answer.status();
  return answer.value_or(-1);
}

TEST(CudaContextTest, TakesTheTuningOfItsGpu) {
  alignas(64) static char memory[64];  // of addresses that nothing accesses
  const CudaProduct gelu = {.m = 4,
                            .n = 8,
                            .k = 2,
                            .input = DType::kBf16,
                            .output = DType::kBf16,
                            .epilogue = CudaEpilogue::kGelu,
                            .a = memory,
                            .b = memory,
                            .gelu_input = memory,
                            .c = memory};
  const ProductTuning tuning = {.gpu = "emulated GPU",
                                .cublaslt = CudaContext::Create(0).value()->cublaslt().version(),
                                .algorithms = {{ToString(gelu), ProductTuning::kUnfused}}};
  ProductTuning of_another = tuning;
  of_another.gpu = "another GPU";
  EXPECT_GT(NumAlgorithms(gelu, {}), 0);
  EXPECT_GT(NumAlgorithms(gelu, {of_another}), 0);
  EXPECT_EQ(NumAlgorithms(gelu, {of_another, tuning}), 0);
}

}  // namespace
}  // namespace strake
