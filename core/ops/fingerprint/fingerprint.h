// The fingerprint of a block of a tensor's elements (core/base/fingerprint.h), wherever a rank
// holds it.
//
// Rows and columns are those of the whole tensor, so that the blocks of any layout add up to the
// same fingerprint. The bits of f32 are its own; bf16 has those of the same number in f32; f64, on
// the CPU alone, counts as two columns, the low half first. Integer sums: the same on every device,
// with any number of threads.
#ifndef STRAKE_CORE_OPS_FINGERPRINT_FINGERPRINT_H_
#define STRAKE_CORE_OPS_FINGERPRINT_FINGERPRINT_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/fingerprint.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// `rows` rows of `columns` elements, `stride` elements apart, the first of which is at `place`.
struct FingerprintBlock {
  FingerprintPlace place;
  int64_t rows = 0, columns = 0, stride = 0;
};

// Partial sums, so that a GPU's blocks of threads need no atomics.
inline constexpr int64_t kFingerprintSums = 1056;

// sums [kFingerprintSums, 2] i64 += the block whose first element is that of x, which is
// one-dimensional and ends with the block's last element. The fingerprint is the sum of all rows of
// `sums`: TotalFingerprint().
absl::Status AddFingerprint(const Context& ctx, const Tensor& x, const FingerprintBlock& block,
                            Tensor sums);

// Adds up sums that are in host memory.
Fingerprint TotalFingerprint(const Tensor& sums);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_FINGERPRINT_FINGERPRINT_H_
