#include "models/head_loss.h"

#include "gtest/gtest.h"

namespace strake {
namespace {

TEST(LogitsChunkTest, AllRowsWhereTheyFit) {
  const LogitsChunk chunk;
  EXPECT_EQ(chunk.NumRows(64, 50257, DType::kF32), 64);
  EXPECT_EQ(chunk.NumChunks(64, 50257, DType::kF32), 1);
  // 256 MiB, and a row more.
  EXPECT_EQ(chunk.NumRows(65536, 2048, DType::kBf16), 65536);
  EXPECT_EQ(chunk.NumRows(65537, 2048, DType::kBf16), 65536);
  EXPECT_EQ(chunk.NumChunks(65537, 2048, DType::kBf16), 2);
}

TEST(LogitsChunkTest, WholeTilesOfAtMostTheLimit) {
  const LogitsChunk chunk;
  // 2^28 / (2 * 50257) is 2670.6.
  EXPECT_EQ(chunk.NumRows(65536, 50257, DType::kBf16), 20 * 128);
  EXPECT_EQ(chunk.NumChunks(65536, 50257, DType::kBf16), 26);
}

TEST(LogitsChunkTest, AtLeastTheLeastRows) {
  const LogitsChunk chunk;
  EXPECT_EQ(chunk.NumRows(8192, 128256, DType::kF32), 1024);
  EXPECT_EQ(chunk.NumRows(1000, 128256, DType::kF32), 1000);
  EXPECT_EQ(chunk.NumChunks(8192, 128256, DType::kF32), 8);
}

TEST(LogitsChunkTest, NoTokens) {
  EXPECT_EQ(LogitsChunk().NumRows(0, 50257, DType::kF32), 1);
  EXPECT_EQ(LogitsChunk().NumChunks(0, 50257, DType::kF32), 0);
}

}  // namespace
}  // namespace strake
