#include "models/head_loss.h"

#include "gtest/gtest.h"

namespace strake {
namespace {

TEST(LogitsChunkTest, AllRowsWhereTheyFit) {
  const LogitsChunk chunk;
  EXPECT_EQ(chunk.NumRows(64, 50257, DType::kF32), 64);
  EXPECT_EQ(chunk.NumChunks(64, 50257, DType::kF32), 1);
  // 512 MiB, and a row more.
  EXPECT_EQ(chunk.NumRows(65536, 4096, DType::kBf16), 65536);
  EXPECT_EQ(chunk.NumRows(65537, 4096, DType::kBf16), 65536);
  EXPECT_EQ(chunk.NumChunks(65537, 4096, DType::kBf16), 2);
}

TEST(LogitsChunkTest, WholeTilesOfAtMostTheLimit) {
  const LogitsChunk chunk;
  // 2^29 / (2 * 50304) is 5336.3.
  EXPECT_EQ(chunk.NumRows(65536, 50304, DType::kBf16), 41 * 128);
  EXPECT_EQ(chunk.NumChunks(65536, 50304, DType::kBf16), 13);
}

TEST(LogitsChunkTest, AtLeastTheLeastRows) {
  const LogitsChunk chunk;
  EXPECT_EQ(chunk.NumRows(8192, 128256, DType::kF32), 4096);
  EXPECT_EQ(chunk.NumRows(1000, 128256, DType::kF32), 1000);
  EXPECT_EQ(chunk.NumChunks(8192, 128256, DType::kF32), 2);
}

TEST(LogitsChunkTest, ACpuHoldsFewer) {
  const LogitsChunk chunk = LogitsChunk::For(Device::kCpu);
  // 2^28 / (4 * 50257) is 1335.3.
  EXPECT_EQ(chunk.NumRows(4096, 50257, DType::kF32), 10 * 128);
  EXPECT_EQ(chunk.NumRows(4096, 128256, DType::kF32), 1024);
  EXPECT_EQ(LogitsChunk::For(Device::kCuda).NumRows(4096, 50257, DType::kF32), 4096);
}

TEST(LogitsChunkTest, NoTokens) {
  EXPECT_EQ(LogitsChunk().NumRows(0, 50257, DType::kF32), 1);
  EXPECT_EQ(LogitsChunk().NumChunks(0, 50257, DType::kF32), 0);
}

}  // namespace
}  // namespace strake
