// Sum of a vector on CUDA. See core/ops/sum/sum.h for the formula.
//
// All in device memory, summed in f64 in an order that depends on the length alone. Work is
// enqueued on `stream`; nothing waits for it. Error: a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_SUM_SUM_CUDA_H_
#define STRAKE_CORE_OPS_SUM_SUM_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/cuda/stream.h"

namespace strake::cuda {

// total [1] +=, from x [size]. By one block: for thousands of elements, not for millions.
absl::Status AddSum(CudaStream stream, const float* x, int64_t size, double* total);
absl::Status AddSum(CudaStream stream, const double* x, int64_t size, double* total);

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_SUM_SUM_CUDA_H_
