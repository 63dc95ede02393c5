#include "core/ops/matmul/matmul_grid.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace strake::cpu {
namespace {

TEST(MatmulGridTest, CoversEveryElementOnceInBlocksThatTheKernelTakes) {
  for (const int threads : {1, 2, 3, 8}) {
    for (const int64_t m : {1, 12, 13, 289, 1000}) {
      for (const int64_t n : {1, 32, 33, 257, 1600}) {
        SCOPED_TRACE(::testing::Message() << m << " x " << n << ", " << threads << " threads");
        const MatmulGrid grid(m, n, threads, kBlockedMatmulLimits);
        std::vector<int> visits(m * n, 0);
        int64_t column_begin = 0;
        for (int64_t i = 0; i < grid.num_blocks(); ++i) {
          const MatmulRange block = grid.Block(i);
          // Blocks of the same columns come one after another.
          EXPECT_GE(block.column_begin, column_begin);
          column_begin = block.column_begin;
          EXPECT_LT(block.row_begin, block.row_end);
          EXPECT_LT(block.column_begin, block.column_end);
          EXPECT_LE(block.row_end - block.row_begin, kMatmulBlockRows);
          EXPECT_LE(block.column_end - block.column_begin, kMatmulBlockColumns);
          EXPECT_EQ(block.row_begin % kMatmulRowGrain, 0);
          EXPECT_EQ(block.column_begin % kMatmulColumnGrain, 0);
          for (int64_t row = block.row_begin; row < block.row_end; ++row) {
            for (int64_t j = block.column_begin; j < block.column_end; ++j) ++visits[row * n + j];
          }
        }
        ASSERT_EQ(visits, std::vector<int>(m * n, 1));
      }
    }
  }
}

TEST(MatmulGridTest, GivesEachThreadAsManyBlocks) {
  // With one thread it would be one block.
  EXPECT_EQ(MatmulGrid(128, 256, 1, kBlockedMatmulLimits).num_blocks(), 1);
  EXPECT_EQ(MatmulGrid(128, 256, 2, kBlockedMatmulLimits).num_blocks(), 2);
  EXPECT_EQ(MatmulGrid(128, 256, 3, kBlockedMatmulLimits).num_blocks(), 3);
  // Splits the longer side.
  EXPECT_EQ(MatmulGrid(128, 256, 2, kBlockedMatmulLimits).Block(0).column_end, 128);
  EXPECT_EQ(MatmulGrid(256, 64, 2, kBlockedMatmulLimits).Block(0).row_end, 132);
  // Nine blocks of columns become ten.
  EXPECT_EQ(MatmulGrid(256, 2304, 2, kBlockedMatmulLimits).num_blocks(), 10);
  // There is nothing more to share.
  EXPECT_EQ(MatmulGrid(12, 32, 4, kBlockedMatmulLimits).num_blocks(), 1);
}

}  // namespace
}  // namespace strake::cpu
