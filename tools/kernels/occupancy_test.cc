#include "tools/kernels/occupancy.h"

#include "gtest/gtest.h"

namespace strake {
namespace {

// Expected figures are worked out by hand from the table of compute capabilities.
TEST(Occupancy, IsLimitedByRegisters) {
  // 128 registers are 4096 per warp: 4 warps in each quarter of 16384, 16 in all.
  const Occupancy two_warps = H200Occupancy({.threads = 64, .registers = 128});
  EXPECT_EQ(two_warps.blocks, 8);
  EXPECT_STREQ(two_warps.limit, "registers");
  EXPECT_DOUBLE_EQ(two_warps.warps, 0.25);
  EXPECT_EQ(H200Occupancy({.threads = 512, .registers = 128}).blocks, 1);
  // 72 registers are 2304 per warp: 7 in each quarter, 28 in all, which hold one block of 16.
  EXPECT_EQ(H200Occupancy({.threads = 512, .registers = 72}).blocks, 1);
  EXPECT_EQ(H200Occupancy({.threads = 512, .registers = 64}).blocks, 2);
  // 65 registers are 2080, rounded up to 2304.
  EXPECT_EQ(H200Occupancy({.threads = 512, .registers = 65}).blocks, 1);
}

TEST(Occupancy, IsLimitedBySharedMemory) {
  const auto blocks = [](int64_t shared_bytes) {
    return H200Occupancy({.threads = 32, .registers = 32, .shared_bytes = shared_bytes}).blocks;
  };
  EXPECT_EQ(blocks(227 << 10), 1);
  EXPECT_EQ(blocks((227 << 10) + 1), 0);
  // With the system's 1 KiB each, two fill 228 KiB.
  EXPECT_EQ(blocks(113 << 10), 2);
  EXPECT_EQ(blocks((113 << 10) + 1), 1);
  EXPECT_STREQ(H200Occupancy({.threads = 32, .registers = 32, .shared_bytes = 113 << 10}).limit,
               "shared");
}

TEST(Occupancy, IsLimitedByWarpsAndBlocks) {
  const Occupancy large = H200Occupancy({.threads = 256, .registers = 32});
  EXPECT_EQ(large.blocks, 8);
  EXPECT_DOUBLE_EQ(large.warps, 1);
  EXPECT_EQ(H200Occupancy({.threads = 96, .registers = 16}).blocks, 21);
  const Occupancy small = H200Occupancy({.threads = 1, .registers = 16});
  EXPECT_EQ(small.blocks, 32);
  EXPECT_STREQ(small.limit, "blocks");
}

TEST(Waves, CountsWholeOnesAndTheRest) {
  const Occupancy two = {.blocks = 2};
  const Waves whole = H200Waves(3 * 264, two);
  EXPECT_DOUBLE_EQ(whole.count, 3);
  EXPECT_DOUBLE_EQ(whole.last, 1);
  EXPECT_DOUBLE_EQ(whole.idle(), 0);
  const Waves more = H200Waves(264 + 66, two);
  EXPECT_DOUBLE_EQ(more.count, 1.25);
  EXPECT_DOUBLE_EQ(more.last, 0.25);
  EXPECT_DOUBLE_EQ(more.idle(), 0.375);
}

}  // namespace
}  // namespace strake
