// RoPE beside transformers: testdata/goldens.txt, made by testdata/make_goldens.py.
#include <cmath>
#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "core/ops/rope/rope.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::GetElement;
using testing::SetElement;
using testing::TestContext;
using testing::TestTensor;

// transformers computes frequencies in f32, with a handful of roundings.
constexpr double kTolerance = 1e-6;

class RopeGoldensTest : public ::testing::Test {
 protected:
  RopeGoldensTest() {
    std::ifstream file("core/ops/rope/testdata/goldens.txt");
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line);
      std::string name;
      words >> name;
      for (double value; words >> value;) goldens_[name].push_back(value);
    }
  }

  const std::vector<double>& Golden(const std::string& name) {
    EXPECT_TRUE(goldens_.contains(name)) << name;
    return goldens_[name];
  }

  double AttentionFactor(const std::string& name) {
    return Golden(name + "/attention_factor").at(0);
  }

  void ExpectTable(const std::string& name, const RopeConfig& config, int64_t num_positions) {
    const std::string length = "/" + std::to_string(num_positions);
    const std::vector<double>& frequencies = Golden(name + "/frequencies" + length);
    const std::vector<double>& row = Golden(name + "/last_row" + length);
    const int64_t half = frequencies.size(), position = num_positions - 1;
    TestTensor got(DType::kF64, {half}), table(DType::kF64, {num_positions, 2 * half});
    RopeFrequencies(config, num_positions, got);
    RopeTable(config, table);
    ASSERT_EQ(row.size(), 2 * half);
    const double factor = AttentionFactor(name);
    for (int64_t i = 0; i < half; ++i) {
      const double f = frequencies[i];
      EXPECT_NEAR(GetElement(got, i).real(), f, kTolerance * f) << name << " " << i;
      // The angle has the relative error of the frequency, and cosine and sine that of f32.
      const double tolerance = factor * kTolerance * (1 + position * f);
      const int64_t at = position * 2 * half + i;
      EXPECT_NEAR(GetElement(table, at).real(), row[i], tolerance) << name << " " << i;
      EXPECT_NEAR(GetElement(table, at + half).real(), row[half + i], tolerance)
          << name << " " << i;
    }
  }

  void ExpectRotated(const std::string& name, const RopeConfig& config, int64_t rotary_dim,
                     int64_t head_dim) {
    constexpr int64_t kPositions = 3, kHeads = 2;
    const std::vector<double>& rotated = Golden(name + "/rotated");
    TestTensor table(DType::kF64, {kPositions, rotary_dim}),
        x(DType::kF64, {kPositions, kHeads * head_dim});
    ASSERT_EQ(static_cast<int64_t>(rotated.size()), x->num_elements());
    RopeTable(config, table);
    for (int64_t i = 0; i < x->num_elements(); ++i) SetElement(x, i, i % 7 - 3);
    const RopeHeads heads = {kHeads, head_dim, config.interleaved};
    ASSERT_TRUE(RopeForward(TestContext(), table, heads, kPositions, 0, x).ok());
    // Two products of factors below 3 and 1.5, with angles of up to 2.
    for (int64_t i = 0; i < x->num_elements(); ++i) {
      EXPECT_NEAR(GetElement(x, i).real(), rotated[i], 2 * 3 * 1.5 * kTolerance)
          << name << " " << i;
    }
  }

 private:
  std::map<std::string, std::vector<double>> goldens_;
};

TEST_F(RopeGoldensTest, Default) {
  ExpectTable("default", {}, 20);
  ExpectRotated("default", {}, 16, 16);
}

TEST_F(RopeGoldensTest, ScalingOfFrequencies) {
  ExpectTable("linear", {.scaling = RopeLinearScaling{4}}, 20);
  ExpectTable("dynamic", {.scaling = RopeDynamicScaling{4}}, 20);
  ExpectTable("llama3", {.scaling = RopeWavelengthScaling{8, 1, 4, 32}}, 20);
}

TEST_F(RopeGoldensTest, Yarn) {
  RopeYarnScaling scaling = {.factor = 8, .original_positions = 256};
  scaling.attention_factor = AttentionFactor("yarn");
  ExpectTable("yarn", {.scaling = scaling}, 20);
  scaling.whole_range = false;
  scaling.fast_rotations = 16;
  scaling.slow_rotations = 2;
  ExpectTable("yarn_not_truncated", {.scaling = scaling}, 20);
}

TEST_F(RopeGoldensTest, LongRope) {
  const RopeConfig config = {
      .rotary_dim = 12,
      .scaling = RopeLongScaling{.short_factors = {1, 1.25, 1.5, 1.75, 2, 2.5},
                                 .long_factors = {1, 2, 4, 8, 16, 24.5},
                                 .original_positions = 16,
                                 .attention_factor = AttentionFactor("longrope")}};
  ExpectTable("longrope", config, 10);
  ExpectTable("longrope", config, 20);
  ExpectRotated("longrope", config, 12, 16);
}

TEST_F(RopeGoldensTest, PartsOfHeadsAndNeighbours) {
  ExpectTable("partial", {.rotary_dim = 8}, 20);
  ExpectRotated("partial", {.rotary_dim = 8}, 8, 32);
  ExpectTable("interleaved", {.rotary_dim = 6, .interleaved = true}, 20);
  ExpectRotated("interleaved", {.rotary_dim = 6, .interleaved = true}, 6, 12);
}

}  // namespace
}  // namespace strake
