#include "tools/benchmarking/tune_products.h"

#include <utility>
#include <vector>

#include "core/cuda/product_tuning.h"
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

}  // namespace
}  // namespace strake
