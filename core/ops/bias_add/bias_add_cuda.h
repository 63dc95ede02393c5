// Bias addition on CUDA, for biases that no matrix product adds in its epilogue.
//
//   y[n,c] = x[n,c] + bias[c]
//
// N < 2^31 rows, C < 2^30 columns. T: float or Bf16; sums are f32. Tensors are row-major and
// packed, in device memory; 128-bit accesses where C and the addresses allow it. Work is enqueued
// on `stream`; the call does not wait for it. Gives the same bits every time, on every GPU of one
// architecture. Returns an error for a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_BIAS_ADD_BIAS_ADD_CUDA_H_
#define STRAKE_CORE_OPS_BIAS_ADD_BIAS_ADD_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"
#include "core/ops/cuda/workspace_sizes.h"

namespace strake::cuda {

// y = [N, C], from x [N, C] and bias [C]. y may be x.
template <typename T>
struct BiasAddForwardArgs {
  const T *x, *bias;
  int64_t rows, columns;
  T* y;
};
template <typename T>
absl::Status BiasAddForward(CudaStream stream, const BiasAddForwardArgs<T>& args);

// Elements of the f32 workspace that BiasAddBackward needs. Its contents do not matter.
inline int64_t BiasAddBackwardWorkspaceSize(int64_t rows, int64_t columns) {
  return NumPartials(rows, columns) * columns;
}

// dbias [C] (f32) += sum over rows of dy [N, C].
template <typename T>
struct BiasAddBackwardArgs {
  const T* dy;
  int64_t rows, columns;
  float *dbias, *workspace;
};
template <typename T>
absl::Status BiasAddBackward(CudaStream stream, const BiasAddBackwardArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_BIAS_ADD_KERNELS(KERNEL) \
  KERNEL(BiasAddForward, float, Bf16)   \
  KERNEL(BiasAddBackward, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_BIAS_ADD_BIAS_ADD_CUDA_H_
