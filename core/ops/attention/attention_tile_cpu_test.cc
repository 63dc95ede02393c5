#include "core/ops/attention/attention_tile_cpu.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

// Rows of floats, aligned for Load and Store.
template <int kRows, int kColumns>
struct alignas(sizeof(Vec)) Tile {
  float* row(int r) { return data + r * kColumns; }
  float data[kRows * kColumns];
};

TEST(AttentionTileTest, ExpIsAccurate) {
  double largest_error = 0;
  for (double x = -86.9; x < 88; x += 0.00037) {
    const float rounded = static_cast<float>(x);
    const double truth = std::exp(static_cast<double>(rounded));
    largest_error = std::max(largest_error, std::abs(Exp(Broadcast(rounded))[0] / truth - 1));
  }
  EXPECT_GT(largest_error, 0);
  EXPECT_LE(largest_error, 0x1p-22);  // 2 units in the last place of the smallest mantissa
  EXPECT_EQ(Exp(Broadcast(0))[kLanes - 1], 1);
}

TEST(AttentionTileTest, ExpAtTheEnds) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Exp(Broadcast(-kInfinity))[0], Exp(Broadcast(-87))[0]);
  EXPECT_LT(Exp(Broadcast(-1e30f))[0], 2e-38f);
  EXPECT_GT(Exp(Broadcast(-87))[0], 1e-38f);
  for (const uint32_t bits : {0x7fc00000u, 0xffffffffu, 0x7f800001u}) {
    float nan;
    std::memcpy(&nan, &bits, sizeof(nan));
    EXPECT_TRUE(std::isnan(Exp(Vec{} + nan)[0])) << bits;
  }
}

TEST(AttentionTileTest, TanhIsAccurate) {
  double largest_error = 0;
  for (double x = 1e-30; x < 12; x *= 1.0003) {
    const float rounded = static_cast<float>(x);
    const double truth = std::tanh(static_cast<double>(rounded));
    const Vec tanh = Tanh(Broadcast(rounded));
    largest_error = std::max(largest_error, std::abs(tanh[0] / truth - 1));
    ASSERT_EQ(Tanh(Broadcast(-rounded))[kLanes - 1], -tanh[0]) << x;
    ASSERT_LE(tanh[0], 1) << x;
  }
  EXPECT_GT(largest_error, 0);
  EXPECT_LE(largest_error, 0x1p-21);  // 4 units in the last place of the smallest mantissa
}

TEST(AttentionTileTest, TanhAtTheEnds) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float x : {9.5f, 1e30f, kInfinity}) {
    EXPECT_EQ(Tanh(Broadcast(x))[0], 1);
    EXPECT_EQ(Tanh(Broadcast(-x))[0], -1);
  }
  EXPECT_EQ(Tanh(Vec{})[0], 0);
  EXPECT_TRUE(std::isnan(Tanh(Broadcast(std::numeric_limits<float>::quiet_NaN()))[0]));
}

TEST(AttentionTileTest, FirstLanes) {
  for (int count = -1; count <= kLanes + 1; ++count) {
    const Vec masked = FirstLanes<true>(count, Broadcast(1), Broadcast(2));
    const Vec whole = FirstLanes<false>(count, Broadcast(1), Broadcast(2));
    for (int i = 0; i < kLanes; ++i) {
      EXPECT_EQ(masked[i], i < count ? 1 : 2);
      EXPECT_EQ(whole[i], 1);
    }
  }
}

TEST(AttentionTileTest, PacksPadsAndUnpacks) {
  for (int columns = 1; columns <= 2 * kLanes; ++columns) {
    float from[3 * 40], back[3 * 40] = {};
    for (int i = 0; i < 3 * 40; ++i) from[i] = i + 1;
    Tile<4, 2 * kLanes> tile;
    PackRows(from, 40, 3, columns, 2, 4, 2 * kLanes, tile.data);
    for (int r = 0; r < 4; ++r) {
      for (int c = 0; c < RoundUp(columns, kLanes); ++c) {
        EXPECT_EQ(tile.row(r)[c], r < 3 && c < columns ? 2 * from[r * 40 + c] : 0);
      }
      std::fill(tile.row(r) + RoundUp(columns, kLanes), tile.row(r + 1), 0.0f);
    }
    UnpackRows(tile.data, 2 * kLanes, 3, columns, 0.5f, back, 40);
    for (int r = 0; r < 3; ++r) {
      for (int c = 0; c < 40; ++c) EXPECT_EQ(back[r * 40 + c], c < columns ? from[r * 40 + c] : 0);
    }
  }
}

TEST(AttentionTileTest, Transposes) {
  Tile<2 * kLanes, 3 * kLanes> from;
  Tile<3 * kLanes, 2 * kLanes> to;
  for (int i = 0; i < 6 * kLanes * kLanes; ++i) from.data[i] = i;
  Transpose(from.data, 3 * kLanes, 2 * kLanes, 3 * kLanes, to.data, 2 * kLanes);
  for (int r = 0; r < 2 * kLanes; ++r) {
    for (int c = 0; c < 3 * kLanes; ++c) EXPECT_EQ(to.row(c)[r], from.row(r)[c]);
  }
}

// Small integers: the sums are exact.
TEST(AttentionTileTest, PanelProducts) {
  constexpr int kDepth = 8, kColumns = 3 * kLanes;
  Tile<kPanelRows, kDepth> a;
  Tile<kDepth, kPanelRows> a_transposed;
  Tile<kDepth, kColumns> b;
  for (int i = 0; i < kDepth * kColumns; ++i) b.data[i] = i * 7 % 17 - 8;
  for (int r = 0; r < kPanelRows; ++r) {
    for (int k = 0; k < kDepth; ++k) {
      a.row(r)[k] = a_transposed.row(k)[r] = (r * 5 + k * 3) % 13 - 6;
    }
  }
  for (const bool accumulate : {false, true}) {
    Tile<kPanelRows, kColumns> c, d;
    std::fill_n(c.data, kPanelRows * kColumns, 100.0f);
    d = c;
    PanelProduct<false>({a.data, kDepth}, {b.data, kColumns}, kColumns, kDepth, accumulate,
                        {c.data, kColumns});
    PanelProduct<true>({a_transposed.data, kPanelRows}, {b.data, kColumns}, kColumns, kDepth,
                       accumulate, {d.data, kColumns});
    for (int r = 0; r < kPanelRows; ++r) {
      for (int j = 0; j < kColumns; ++j) {
        float sum = accumulate ? 100 : 0;
        for (int k = 0; k < kDepth; ++k) sum += a.row(r)[k] * b.row(k)[j];
        EXPECT_EQ(c.row(r)[j], sum);
        EXPECT_EQ(d.row(r)[j], sum);
      }
    }
  }
}

}  // namespace
}  // namespace strake::cpu::STRAKE_CPU_ISA
