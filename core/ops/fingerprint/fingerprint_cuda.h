// Fingerprints on CUDA. See core/ops/fingerprint/fingerprint.h.
//
// All tensors are in device memory; 128-bit accesses where addresses, columns and stride allow it.
// Work is enqueued on `stream`; the call does not wait for it. Returns an error for a launch that
// the device refuses.
#ifndef STRAKE_CORE_OPS_FINGERPRINT_FINGERPRINT_CUDA_H_
#define STRAKE_CORE_OPS_FINGERPRINT_FINGERPRINT_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/base/fingerprint.h"
#include "core/cuda/stream.h"

namespace strake::cuda {

// The most blocks of threads of a launch: enough to fill an H200 (132 multiprocessors).
inline constexpr int kFingerprintBlocks = 8 * 132;

// sums [kFingerprintBlocks, 2] += partial sums of the fingerprint of `rows` rows of `columns`
// elements, `stride` elements apart. T is f32 or bf16.
template <typename T>
struct AddFingerprintArgs {
  const T* x;
  FingerprintPlace place;
  int64_t rows, columns, stride;
  uint64_t* sums;
};
template <typename T>
absl::Status AddFingerprint(CudaStream stream, const AddFingerprintArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_FINGERPRINT_KERNELS(KERNEL) KERNEL(AddFingerprint, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_FINGERPRINT_FINGERPRINT_CUDA_H_
