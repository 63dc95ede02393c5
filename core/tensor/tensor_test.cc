#include "core/tensor/tensor.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace strake {
namespace {

TEST(TensorTest, ViewsShareMemory) {
  std::vector<float> values = {0, 1, 2, 3, 4, 5};
  const Tensor x(values.data(), DType::kF32, {3, 2});
  EXPECT_EQ(x.dim(0), 3);
  EXPECT_EQ(x.dim(-1), 2);
  EXPECT_EQ(x.num_bytes(), 24u);
  EXPECT_EQ(x.Rows(1, 3).shape(), (Shape{2, 2}));
  EXPECT_EQ(x.Rows(1, 3).data<float>()[0], 2);
  EXPECT_EQ(x.Rows(3, 3).num_elements(), 0);
  x.Reshape({6}).data<float>()[5] = 7;
  EXPECT_EQ(values[5], 7);
  EXPECT_EQ(x.ToString(), "f32[3, 2]");
  EXPECT_FALSE(Tensor().defined());
}

TEST(TensorTest, NullDataStaysNullInViews) {
  const Tensor x(nullptr, DType::kF64, {4, 4});
  EXPECT_EQ(x.Rows(2, 3).raw(), nullptr);
}

TEST(TensorDeathTest, MistakesNameTheShapes) {
  std::vector<float> values(6);
  const Tensor x(values.data(), DType::kF32, {3, 2});
  EXPECT_DEATH(x.Reshape({4}), "f32\\[3, 2\\] to \\[4\\]");
  EXPECT_DEATH(x.Rows(2, 4), "Rows\\(2, 4\\) of f32\\[3, 2\\]");
  EXPECT_DEATH(x.data<double>(), "f32\\[3, 2\\] read as f64");
  EXPECT_DEATH(x.dim(2), "no dimension 2");
}

TEST(Bf16Test, RoundsToNearestEven) {
  EXPECT_EQ(static_cast<float>(Bf16(1.0f)), 1.0f);
  // 8 significant bits: 1 + 2^-8 lies between 1 and 1 + 2^-7, and 1 is the even one.
  EXPECT_EQ(static_cast<float>(Bf16(1.0f + 0x1p-8f)), 1.0f);
  EXPECT_EQ(static_cast<float>(Bf16(1.0f + 0x1.8p-7f)), 1.0f + 0x1p-6f);
  EXPECT_EQ(static_cast<float>(Bf16(std::numeric_limits<float>::max())), INFINITY);
  EXPECT_EQ(static_cast<float>(Bf16(-INFINITY)), -INFINITY);
  EXPECT_TRUE(std::isnan(static_cast<float>(Bf16(std::nanf("")))));
}

}  // namespace
}  // namespace strake
