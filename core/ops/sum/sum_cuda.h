// Sum of a vector on CUDA. See core/ops/sum/sum.h for the formula.
//
// All tensors are in device memory; sums are f64, in an order that depends on the length alone.
// Work is enqueued on `stream`; the call does not wait for it. Returns an error for a launch that
// the device refuses.
#ifndef STRAKE_CORE_OPS_SUM_SUM_CUDA_H_
#define STRAKE_CORE_OPS_SUM_SUM_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/cuda/stream.h"

namespace strake::cuda {

// total [1] +=, from x [size]. One block computes it: for thousands of elements, not for millions.
template <typename T>
struct AddSumArgs {
  const T* x;
  int64_t size;
  double* total;
};
template <typename T>
absl::Status AddSum(CudaStream stream, const AddSumArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_SUM_KERNELS(KERNEL) KERNEL(AddSum, float, double)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_SUM_SUM_CUDA_H_
