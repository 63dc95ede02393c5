// Included by kernels' .cu files: sums over rows. A first kernel writes partial sums, one row of
// them per group of rows, and SumPartials adds these up. There are no atomics, so the order of the
// additions is fixed, and with it the bits.
#ifndef STRAKE_CORE_OPS_CUDA_SUM_PARTIALS_H_
#define STRAKE_CORE_OPS_CUDA_SUM_PARTIALS_H_

#include "core/cuda/portable.h"
#include "core/ops/cuda/workspace_sizes.h"

namespace strake::cuda {

// to[c] += sum_p partials[p, c]. A block of (32, 32) threads processes 32 columns: its row y adds
// every 32nd partial from y on, then warp y adds the 32 sums of column y.
static __global__ void SumPartialsKernel(const float* partials, int num_partials, int columns,
                                         float* to) {
  // 33 columns, so that the lanes of a warp read a column from 32 different banks.
  __shared__ Shared<float, kWarpSize*(kWarpSize + 1)> tile;
  const int first = blockIdx.x * kWarpSize;
  float sum = 0;
  if (first + threadIdx.x < columns) {
    const float* column = partials + first + threadIdx.x;
#pragma unroll 4
    for (int p = threadIdx.y; p < num_partials; p += kWarpSize) sum += column[int64_t{p} * columns];
  }
  tile[threadIdx.y * (kWarpSize + 1) + threadIdx.x] = sum;
  __syncthreads();
  sum = WarpSum(tile[threadIdx.x * (kWarpSize + 1) + threadIdx.y]);
  if (threadIdx.x == 0 && first + threadIdx.y < columns) to[first + threadIdx.y] += sum;
}

// to [columns] += the column sums of partials [num_partials, columns].
inline absl::Status SumPartials(CudaStream stream, const float* partials, int64_t num_partials,
                                int64_t columns, float* to) {
  return Launch<SumPartialsKernel>(stream, (columns + kWarpSize - 1) / kWarpSize,
                                   dim3(kWarpSize, kWarpSize), 0, partials, num_partials, columns,
                                   to);
}

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_CUDA_SUM_PARTIALS_H_
