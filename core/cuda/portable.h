// The only header that a kernel includes. The kernel's source compiles for GPUs with nvcc, and as
// C++ for the emulator of core/testing/cuda_emulator.h, which runs it in tests on any machine.
//
// A kernel is CUDA C++, with these differences:
//   * `Launch<Kernel<float>>(stream, grid, block, dynamic_shared_bytes, arguments...)` replaces
//     <<<>>> and returns an error for an impossible launch.
//   * Static shared memory is `__shared__ Shared<float, 32> sums;`. An element is read into, or
//     written from, a value of its type; it has no address, but `sums + 8` is like a pointer.
//   * Dynamic shared memory is `auto tile = DynamicShared<float>(byte_offset);`.
//   * 128 bits are moved by LoadVec<kWidth>(pointer) and StoreVec(pointer, Vec). In shared memory
//     only dynamic shared memory is aligned for them.
//   * bf16 is core/base/dtype.h's Bf16; ToFloat(x) and FromFloat<T>(x) convert, to nearest even
//     (NaN stays NaN, with a payload that depends on the device).
//   * There are no floating-point atomics: the same input gives the same bits.
#ifndef STRAKE_CORE_CUDA_PORTABLE_H_
#define STRAKE_CORE_CUDA_PORTABLE_H_

// Selects the backend by compiler, because no build rule can give one file to two compilers with
// different meanings.
#ifdef __CUDACC__
#include "core/cuda/portable_nvcc.h"
#else
#include "core/cuda/portable_emulator.h"
#endif

namespace strake {

inline constexpr unsigned kWholeWarp = 0xffffffffu;
inline constexpr int kWarpSize = 32;
inline constexpr int kMaxBlockWarps = 32;

// The sum of `value` over groups of kLanes neighbouring lanes, all 32 by default; the lanes of a
// group get the same bits. Sums in a tree over the lane distances 16, 8, 4, 2, 1, from kLanes / 2
// on.
template <int kLanes = kWarpSize, typename Number>
__device__ Number WarpSum(Number value) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kWholeWarp, value, distance);
  }
  return value;
}

// The sum over a block of (whole warps, 1, 1) threads; all threads get the same bits: WarpSum of
// the warps' sums. `sums` is shared memory of kMaxBlockWarps floats. Calls __syncthreads once;
// another one is needed before `sums` is used again.
template <typename SharedFloats>
__device__ float BlockSum(float value, SharedFloats&& sums) {
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  value = WarpSum(value);
  if (lane == 0) sums[warp] = value;
  __syncthreads();
  value = 0;
  if (lane < blockDim.x / kWarpSize) value = sums[lane];
  return WarpSum(value);
}

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_PORTABLE_H_
