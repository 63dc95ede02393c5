#include "tools/benchmarking/tune_products.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/cuda/product_tuning.h"
#include "core/device/cuda_context.h"
#include "core/device/op_call.h"
#include "core/tensor/tensor.h"
#include "core/testing/cublaslt_contract/contract.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

int Chosen(std::vector<double> seconds, double unfused = 9) {
  return ChooseAlgorithm(
      {.product = "", .seconds = std::move(seconds), .unfused_seconds = unfused});
}

TEST(TuneProductsTest, ChoosesWhatIsFasterByMoreThanNoise) {
  EXPECT_EQ(Chosen({1.0}), 0);
  EXPECT_EQ(Chosen({1.0, 0.99, 0.985}), 0);
  EXPECT_EQ(Chosen({1.0, 0.99, 0.9, 0.95}), 2);
  EXPECT_EQ(Chosen({1.0, 1.1, 2.0}), 0);
  EXPECT_EQ(Chosen({1.0, 0.9}, 0.89), 1);
  EXPECT_EQ(Chosen({1.0, 0.9}, 0.8), ProductTuning::kUnfused);
  EXPECT_EQ(Chosen({1.0}, 0.99), 0);
}

// Numbers of cublasLtEpilogue_t.
constexpr int kBias = 4, kGeluBias = 164, kSumsA = 256, kSumsB = 512;

// The texts of what is tuned for the call, where the library refuses epilogues.
std::vector<std::string> TunedFor(const OpCall& call, const std::set<int>& refused) {
  const testing::ScopedCublasLtBehaviour refuse({.refused_epilogues = refused});
  const auto cuda = CudaContext::Create(0);
  EXPECT_TRUE(cuda.ok()) << cuda.status();
  const auto tuned = TuneProducts(**cuda, {call});
  EXPECT_TRUE(tuned.ok()) << tuned.status();
  EXPECT_THAT(testing::TakeCublasLtViolations(), ::testing::IsEmpty());
  std::vector<std::string> products;
  for (const TunedProduct& each : tuned.value()) {
    EXPECT_FALSE(each.seconds.empty()) << each.product;
    products.push_back(each.product);
  }
  return products;
}

// An entry for a product that does not run would be of no use.
TEST(TuneProductsTest, TunesTheProductThatRunsWhereTheLibraryRefusesTheWhole) {
  using ::testing::ElementsAre;
  const auto matrix = [](DType dtype, const Shape& shape) { return Tensor(nullptr, dtype, shape); };
  OpCall gelu = {.op = "matmul"};
  gelu.In("a", matrix(DType::kBf16, {8, 16})).In("b", matrix(DType::kBf16, {16, 24}));
  gelu.Set("transpose_a", 0).Set("transpose_b", 0).In("bias", matrix(DType::kBf16, {24}));
  gelu.Out("gelu_input", matrix(DType::kBf16, {8, 24})).Out("c", matrix(DType::kBf16, {8, 24}));
  const std::string plain = "c bf16[8, 24] = a bf16[8, 16] b bf16[16, 24]";
  EXPECT_THAT(TunedFor(gelu, {}), ElementsAre(plain + ", bias", plain + ", bias, gelu"));
  EXPECT_THAT(TunedFor(gelu, {kGeluBias}), ElementsAre(plain + ", bias"));
  EXPECT_THAT(TunedFor(gelu, {kGeluBias, kBias}), ElementsAre(plain));

  OpCall sums = {.op = "matmul"};
  sums.In("a", matrix(DType::kBf16, {16, 8})).In("b", matrix(DType::kBf16, {16, 24}));
  sums.Set("transpose_a", 1).Set("transpose_b", 0).InOut("b_sums", matrix(DType::kF32, {24}));
  sums.Out("c", matrix(DType::kF32, {8, 24}));
  EXPECT_THAT(TunedFor(sums, {kSumsA, kSumsB}),
              ElementsAre("c f32[8, 24] = a bf16[8, 16] transposed b bf16[16, 24]"));
}

}  // namespace
}  // namespace strake
