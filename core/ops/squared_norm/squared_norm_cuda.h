// Sum of squares on CUDA. See core/ops/squared_norm/squared_norm.h for the formulas.
//
// x is f32 of any length. Its sum is f64, in an order that depends on the length alone: the same
// bits at every address. All tensors are in device memory; 128-bit accesses where the address
// allows it. Work is enqueued on `stream`; the call does not wait for it. Returns an error for a
// launch that the device refuses.
#ifndef STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_CUDA_H_
#define STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/cuda/stream.h"
#include "core/ops/cuda/workspace_sizes.h"

namespace strake::cuda {

// Elements that a block of threads processes at a time.
inline constexpr int kSquaredNormBlock = 1024;

// Elements of the f64 workspace that SquaredNormForward needs. Its contents do not matter.
inline int64_t SquaredNormWorkspaceSize(int64_t size) {
  // Enough to fill an H200 (132 multiprocessors). A constant, not a property of the device, because
  // the bits depend on it.
  constexpr int64_t kMaxPartials = 8 * 132;
  const int64_t blocks = CeilDiv(size, kSquaredNormBlock);
  return blocks < kMaxPartials ? blocks : kMaxPartials;
}

// sum = [1], from x [size].
struct SquaredNormForwardArgs {
  const float* x;
  int64_t size;
  double *sum, *workspace;
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
