// Sizes of kernels' workspaces. Ops plan memory with them, also in builds without CUDA.
#ifndef STRAKE_CORE_OPS_CUDA_WORKSPACE_SIZES_H_
#define STRAKE_CORE_OPS_CUDA_WORKSPACE_SIZES_H_

#include <cstdint>

namespace strake::cuda {

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Number of partial sums, at most one per row: enough to fill an H200 (132 multiprocessors), while
// the partials, about 4 MB, stay in its L2. A constant, not a property of the device, because the
// bits depend on it. 0 if there are 0 columns.
inline int64_t NumPartials(int64_t rows, int64_t columns) {
  if (columns == 0) return 0;
  const int64_t by_size = (int64_t{1} << 20) / columns;
  const int64_t filling = by_size < 132 ? 132 : by_size > 16 * 132 ? 16 * 132 : by_size;
  return rows < filling ? rows : filling;
}

// Warps of a block that keeps a row in registers (row_blocks.h), at most, and the bytes of the row
// that each keeps. As each thread may use 128 registers, a multiprocessor holds as many warps of
// such blocks at a time.
inline constexpr int kRowBlockWarps = 16;
inline constexpr int kRowBlockWarpBytes = 1024;

// Number of partial sums that such blocks write, one each, at most one per row: what the 132
// multiprocessors of an H200 hold at a time, so that no block waits for another. A constant, not a
// property of the device, because the bits depend on it. 0 if there are 0 columns.
inline int64_t NumRowBlockPartials(int64_t rows, int64_t columns, int64_t element_bytes) {
  if (columns == 0) return 0;
  const int64_t warps = CeilDiv(columns * element_bytes, kRowBlockWarpBytes);
  const int64_t filling =
      132 * (kRowBlockWarps / (warps < kRowBlockWarps ? warps : kRowBlockWarps));
  return rows < filling ? rows : filling;
}

// Bits of a digit of the sort in sort_by_row.h, and indices per tile.
inline constexpr int kDigitBits = 9;
inline constexpr int kDigits = 1 << kDigitBits;
inline constexpr int kTile = 2048;

// Elements of the workspace of SortByRow.
inline int64_t SortByRowWorkspaceSize(int64_t num_tokens) {
  return 2 * num_tokens + kDigits * (CeilDiv(num_tokens, kTile) + 1);
}

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_CUDA_WORKSPACE_SIZES_H_
