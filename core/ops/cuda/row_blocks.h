// Included by kernels' .cu files: blocks of threads that hold a row in registers while it is
// reduced.
#ifndef STRAKE_CORE_OPS_CUDA_ROW_BLOCKS_H_
#define STRAKE_CORE_OPS_CUDA_ROW_BLOCKS_H_

#include "core/cuda/portable.h"
#include "core/ops/cuda/workspace_sizes.h"

namespace strake::cuda {

inline constexpr int kRowBlockThreads = kRowBlockWarps * kWarpSize;
// Vectors of 16 bytes of a row that a thread keeps in registers. Two put enough in flight to fill
// HBM. Longer rows (above 8192 columns of bf16, 4096 of f32) are read again from L2.
inline constexpr int kResident = 2;
static_assert(kResident * kVecBytes * kWarpSize == kRowBlockWarpBytes);

// The number of threads per block for rows of this many vectors.
inline int RowBlockThreads(int64_t vectors) {
  const int64_t warps = (vectors + kResident * kWarpSize - 1) / (kResident * kWarpSize);
  if (warps == 0) return kWarpSize;
  return warps * kWarpSize < kRowBlockThreads ? warps * kWarpSize : kRowBlockThreads;
}

// A thread's part of a row in the backward pass.
template <typename T, int kWidth>
struct RowPart {
  Vec<T, kWidth> dy[kResident], x[kResident];
};

template <typename T, int kWidth>
__device__ __forceinline__ RowPart<T, kWidth> LoadRow(const T* dy, const T* x, int vectors) {
  RowPart<T, kWidth> part = {};
#pragma unroll
  for (int k = 0; k < kResident; ++k) {
    const int v = threadIdx.x + k * blockDim.x;
    if (v >= vectors) continue;
    part.dy[k] = LoadVec<kWidth>(dy + v * kWidth);
    part.x[k] = LoadVec<kWidth>(x + v * kWidth);
  }
  return part;
}

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_CUDA_ROW_BLOCKS_H_
