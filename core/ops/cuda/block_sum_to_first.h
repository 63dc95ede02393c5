// Included by kernels' .cu files: sums over a block of numbers of 64 bits.
#ifndef STRAKE_CORE_OPS_CUDA_BLOCK_SUM_TO_FIRST_H_
#define STRAKE_CORE_OPS_CUDA_BLOCK_SUM_TO_FIRST_H_

#include "core/cuda/portable.h"

namespace strake::cuda {

// Like BlockSum, of double or uint64_t; only thread 0 gets the result. `sums` is shared memory of
// one number per warp.
template <typename Number, typename SharedNumbers>
__device__ Number BlockSumToFirst(Number value, SharedNumbers sums) {
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  value = WarpSum(value);
  if (lane == 0) sums[warp] = value;
  __syncthreads();
  value = 0;
  if (lane < blockDim.x / kWarpSize) value = sums[lane];
  return WarpSum(value);
}

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_CUDA_BLOCK_SUM_TO_FIRST_H_
