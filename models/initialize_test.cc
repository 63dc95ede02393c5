#include "models/initialize.h"

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "models/sliced_models.h"

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
  ASSERT_TRUE(InitializeParameters(7, one, &fused).ok());
  ASSERT_TRUE(InitializeParameters(7, three, &apart).ok());
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
    EXPECT_TRUE(InitializeParameters(seed, team, arena).ok());
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

TEST(InitializeTest, UniformWithinItsBound) {
  ThreadTeam team(2);
  ParameterArena arena;
  constexpr int kSize = 20000;
  const Parameter* a = arena.Add({{"a", 1000, true}}, {20, 1000}, true, {.bound = 0.5});
  ASSERT_TRUE(arena.Allocate(DType::kF64, false).ok());
  ASSERT_TRUE(InitializeParameters(1, team, &arena).ok());
  double mean = 0, square = 0;
  for (int i = 0; i < kSize; ++i) {
    const double x = a->value.data<double>()[i];
    mean += x / kSize;
    square += x * x / kSize;
  }
  // Five standard errors; the variance of a uniform number is a third of the bound's square, and
  // that of its square 4/45 of the fourth power.
  EXPECT_NEAR(mean, 0, 5 * 0.5 / std::sqrt(3.0 * kSize));
  EXPECT_NEAR(square, 0.25 / 3, 5 * 0.25 * std::sqrt(4.0 / 45 / kSize));
  EXPECT_LE(testing::MaxAbs(a->value), 0.5);
  EXPECT_GT(testing::MaxAbs(a->value), 0.499);
}

// Every rank's slice of every tensor has the whole's bits, padding is 0, and the slices cover the
// whole.
void ExpectTheWholesBits(const ModelConfig& config, int num_ranks) {
  ThreadTeam team(2);
  std::map<std::string, std::vector<float>> whole, seen;
  const auto set = [](std::vector<float>& tensor, int64_t i, float value) {
    if (i >= tensor.size()) tensor.resize(i + 1);
    tensor[i] = value;
  };
  const auto arena = testing::SlicedParameters(config, 0, 1);
  ASSERT_TRUE(arena->Allocate(DType::kF32, false).ok());
  ASSERT_TRUE(InitializeParameters(7, team, arena.get()).ok());
  testing::ForEachElement(*arena, [&](const ParameterSegment& segment, int64_t full, int64_t i) {
    set(whole[segment.name], full, arena->values().data<float>()[i]);
  });
  for (int rank = 0; rank < num_ranks; ++rank) {
    const auto local = testing::SlicedParameters(config, rank, num_ranks);
    ASSERT_TRUE(local->Allocate(DType::kF32, false).ok());
    ASSERT_TRUE(InitializeParameters(7, team, local.get()).ok());
    const TensorBuffer expected(DType::kF32, {local->num_elements()});
    testing::ForEachElement(*local, [&](const ParameterSegment& segment, int64_t full, int64_t i) {
      const float value = whole.at(segment.name).at(full);
      expected.tensor().data<float>()[i] = value;
      set(seen[segment.name], full, value);
    });
    EXPECT_TRUE(testing::SameBits(local->values(), expected)) << rank << " of " << num_ranks;
    EXPECT_GT(testing::MaxAbs(expected), 0);
  }
  EXPECT_EQ(seen, whole);
}

TEST(InitializeTest, EveryLayoutGetsTheSameBits) {
  for (const int num_ranks : {1, 2, 3, 4, 8}) {
    for (const int64_t num_kv_heads : {1, 4}) {
      if (num_kv_heads % num_ranks != 0 && num_ranks % num_kv_heads != 0) continue;
      for (ModelConfig config : testing::SlicedModels(num_kv_heads)) {
        ExpectTheWholesBits(config, num_ranks);
        config.lora = {.rank = 3, .alpha = 3};
        ExpectTheWholesBits(config, num_ranks);
      }
    }
  }
}

}  // namespace
}  // namespace strake
