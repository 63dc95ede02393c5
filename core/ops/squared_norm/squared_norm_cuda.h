// Sum of squares on CUDA. See core/ops/squared_norm/squared_norm.h for the formulas.
//
// x is f32 of any length. The bits are those of the CPU. All tensors are in device memory; 128-bit
// accesses where the address allows it. Work is enqueued on `stream`; the call does not wait for
// it. Returns an error for a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_CUDA_H_
#define STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/exact_sum.h"
#include "core/cuda/stream.h"
#include "core/ops/cuda/workspace_sizes.h"
#include "core/ops/squared_norm/squared_norm_unit.h"

namespace strake::cuda {

// Units that a block of threads processes at a time.
inline constexpr int kSquaredNormBlockUnits = 64;

// Blocks of threads of the forward pass, at most as many as fill an H200 (132 multiprocessors).
inline int64_t NumSquaredNormBlocks(int64_t size) {
  constexpr int64_t kMaxBlocks = 8 * 132;
  const int64_t blocks = CeilDiv(size, kSquaredNormBlockUnits * kSquaredNormUnit);
  return blocks < kMaxBlocks ? blocks : kMaxBlocks;
}

// Elements of the i64 workspace that SquaredNormForward needs. Its contents do not matter.
inline int64_t SquaredNormWorkspaceSize(int64_t size) {
  return kExactSumLimbs * NumSquaredNormBlocks(size);
}

// sum [kExactSumLimbs] +=, from x [size].
struct SquaredNormForwardArgs {
  const float* x;
  int64_t size;
  int64_t *sum, *workspace;
};
absl::Status SquaredNormForward(CudaStream stream, const SquaredNormForwardArgs& args);

// dx = 2 x dsum, with dsum [1]; dx may be x.
struct SquaredNormBackwardArgs {
  const float* x;
  const double* dsum;
  int64_t size;
  float* dx;
};
absl::Status SquaredNormBackward(CudaStream stream, const SquaredNormBackwardArgs& args);

// See core/cuda/kernel_list.h.
#define STRAKE_SQUARED_NORM_KERNELS(KERNEL) \
  KERNEL(SquaredNormForward)                \
  KERNEL(SquaredNormBackward)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_CUDA_H_
