// Random numbers on CUDA, with the same bits as core/base/philox.h.
//
// Each number is a function of its index, so it depends neither on the launch nor on where a range
// is cut. `size` elements. T: float or Bf16. Tensors are packed, in device memory; 128-bit stores
// where the address allows it. Work is enqueued on `stream`; the call does not wait for it. Returns
// an error for a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_PHILOX_PHILOX_CUDA_H_
#define STRAKE_CORE_OPS_PHILOX_PHILOX_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/base/philox.h"
#include "core/cuda/stream.h"

namespace strake::cuda {

// x[i] = 2 u - 1, uniform in [-1, 1), where u is the upper 24 bits of random.Bits(first + i)
// divided by 2^24. In bf16, x[i] is rounded to nearest, and so at most 1.
template <typename T>
struct PhiloxUniformArgs {
  Philox random;
  uint64_t first;
  int64_t size;
  T* x;
};
template <typename T>
absl::Status PhiloxUniform(CudaStream stream, const PhiloxUniformArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_PHILOX_KERNELS(KERNEL) KERNEL(PhiloxUniform, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_PHILOX_PHILOX_CUDA_H_
