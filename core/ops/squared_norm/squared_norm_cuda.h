// Sum of squares on CUDA. See core/ops/squared_norm/squared_norm.h for the formulas.
//
// x is f32 of any length, its sum f64, in an order that depends on the length alone: the same bits
// at every address. All in device memory; 128-bit accesses where the address allows it. Work is
// enqueued on `stream`; nothing waits for it. Error: a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_CUDA_H_
#define STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/cuda/stream.h"

namespace strake::cuda {

// Elements of the f64 workspace that SquaredNormForward needs. Its contents do not matter.
int64_t SquaredNormWorkspaceSize(int64_t size);

// sum = [1], from x [size].
absl::Status SquaredNormForward(CudaStream stream, const float* x, int64_t size, double* sum,
                                double* workspace);

// dx = 2 x dsum, with dsum [1]; dx may be x.
absl::Status SquaredNormBackward(CudaStream stream, const float* x, const double* dsum,
                                 int64_t size, float* dx);

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_CUDA_H_
