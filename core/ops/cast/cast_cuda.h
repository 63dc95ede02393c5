// Conversions between f32 and bf16 on CUDA. See core/ops/cast/cast.h.
//
// `size` elements. Tensors are packed, in device memory; 128-bit accesses where the addresses allow
// it. Work is enqueued on `stream`; the call does not wait for it. Gives the same bits every time.
// Returns an error for a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_CAST_CAST_CUDA_H_
#define STRAKE_CORE_OPS_CAST_CAST_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"

namespace strake::cuda {

// y = x, rounded.
struct CastToBf16Args {
  const float* x;
  int64_t size;
  Bf16* y;
};
absl::Status CastToBf16(CudaStream stream, const CastToBf16Args& args);

// y = x.
struct CastFromBf16Args {
  const Bf16* x;
  int64_t size;
  float* y;
};
absl::Status CastFromBf16(CudaStream stream, const CastFromBf16Args& args);

// y += x.
struct CastAddArgs {
  const Bf16* x;
  int64_t size;
  float* y;
};
absl::Status CastAdd(CudaStream stream, const CastAddArgs& args);

// See core/cuda/kernel_list.h.
#define STRAKE_CAST_KERNELS(KERNEL) \
  KERNEL(CastToBf16)                \
  KERNEL(CastFromBf16)              \
  KERNEL(CastAdd)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_CAST_CAST_CUDA_H_
