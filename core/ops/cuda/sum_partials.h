// Included by kernels' .cu files: sums over rows. A first kernel writes partial sums, one row of
// them per group of rows, and SumPartials adds these up. There are no atomics, so the order of the
// additions is fixed, and with it the bits.
#ifndef STRAKE_CORE_OPS_CUDA_SUM_PARTIALS_H_
#define STRAKE_CORE_OPS_CUDA_SUM_PARTIALS_H_

#include "core/cuda/portable.h"
#include "core/ops/cuda/workspace_sizes.h"

namespace strake::cuda {

// A block has a column for each of the 8 floats of a sector of memory: more columns would leave
// most multiprocessors without a block.
inline constexpr int kSumColumns = 8, kSumRows = 32;

// to[c] += sum_p partials[p, c]; with a second row of blocks, next_to[c] += the same of the
// partials behind these. A block of (kSumColumns, kSumRows) threads processes kSumColumns columns:
// its row y adds every 32nd partial from y on. Then each warp adds its 4 rows, and warp w the sums
// of column w.
static __global__ void __launch_bounds__(kSumColumns* kSumRows)
    SumPartialsKernel(const float* partials, int num_partials, int columns, float* to,
                      float* next_to) {
  constexpr int kWarps = kSumColumns * kSumRows / kWarpSize;
  static_assert(kWarps == kSumColumns);
  __shared__ Shared<float, kSumColumns * kWarps> sums;
  const int first = blockIdx.x * kSumColumns;
  float sum = 0;
  if (first + threadIdx.x < columns) {
    const float* column =
        partials + int64_t{blockIdx.y} * num_partials * columns + first + threadIdx.x;
#pragma unroll 8
    for (int p = threadIdx.y; p < num_partials; p += kSumRows) sum += column[int64_t{p} * columns];
  }
#pragma unroll
  for (int distance = kWarpSize / 2; distance >= kSumColumns; distance /= 2) {
    sum += __shfl_xor_sync(kWholeWarp, sum, distance);
  }
  const int thread = threadIdx.y * kSumColumns + threadIdx.x;
  const int lane = thread % kWarpSize, warp = thread / kWarpSize;
  if (lane < kSumColumns) sums[lane * kWarps + warp] = sum;
  __syncthreads();
  sum = WarpSum(lane < kWarps ? static_cast<float>(sums[warp * kWarps + lane]) : 0.f);
  if (lane == 0 && first + warp < columns) (blockIdx.y == 0 ? to : next_to)[first + warp] += sum;
}

// to [columns] += the column sums of partials [num_partials, columns]; with a `next_to`, the
// partials are [2, num_partials, columns], and it gets the sums of the second half.
inline absl::Status SumPartials(CudaStream stream, const float* partials, int64_t num_partials,
                                int64_t columns, float* to, float* next_to = nullptr) {
  return Launch<SumPartialsKernel>(
      stream, dim3(CeilDiv(columns, kSumColumns), next_to == nullptr ? 1 : 2),
      dim3(kSumColumns, kSumRows), 0, partials, num_partials, columns, to, next_to);
}

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_CUDA_SUM_PARTIALS_H_
