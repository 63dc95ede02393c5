#include "models/initialize.h"

#include <cmath>

#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

// One fused matrix (two transposed parts) and the same two tensors apart.
TEST(InitializeTest, AFunctionOfNameAndHuggingFaceIndex) {
  ThreadTeam one(1), three(3);
  ParameterArena fused, apart, again;
  const Parameter* qk = fused.Add({{"q", 4, true}, {"k", 2, true}}, {3, 6}, true, {.stddev = 2});
  const Parameter* k = apart.Add({{"k", 3}}, {2, 3}, true, {.stddev = 2});
  const Parameter* q = apart.Add({{"q", 3}}, {4, 3}, true, {.stddev = 2});
  for (ParameterArena* arena : {&fused, &apart}) {
    ASSERT_TRUE(arena->Allocate(DType::kF32, false).ok());
  }
  InitializeParameters(7, one, &fused);
  InitializeParameters(7, three, &apart);
  for (int row = 0; row < 3; ++row) {
    for (int column = 0; column < 6; ++column) {
      const float value = qk->value.data<float>()[row * 6 + column];
      EXPECT_NE(value, 0);
      EXPECT_EQ(value, column < 4 ? q->value.data<float>()[column * 3 + row]
                                  : k->value.data<float>()[(column - 4) * 3 + row]);
    }
  }
}

TEST(InitializeTest, MomentsAndSeed) {
  ThreadTeam team(2);
  const auto fill = [&](uint64_t seed, ParameterArena* arena) {
    const Parameter* w = arena->Add({{"w", 1000}}, {20, 1000}, true, {.mean = 1, .stddev = 0.5});
    const Parameter* b = arena->Add({{"b", 10}}, {10}, false, {.mean = 1});
    EXPECT_TRUE(arena->Allocate(DType::kF64, false).ok());
    InitializeParameters(seed, team, arena);
    EXPECT_EQ(b->value.data<double>()[9], 1);
    return w;
  };
  ParameterArena first, second;
  const Parameter* w = fill(1, &first);
  const Parameter* other = fill(2, &second);
  double mean = 0, square = 0;
  for (int i = 0; i < 20000; ++i) {
    const double x = w->value.data<double>()[i];
    mean += x / 20000;
    square += (x - 1) * (x - 1) / 20000;
  }
  // Five standard errors.
  EXPECT_NEAR(mean, 1, 5 * 0.5 / std::sqrt(20000));
  EXPECT_NEAR(square, 0.25, 5 * 0.25 * std::sqrt(2.0 / 20000));
  EXPECT_FALSE(testing::SameBits(w->value, other->value));
}

}  // namespace
}  // namespace strake
