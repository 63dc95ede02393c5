// The part of a product that cuBLASLt computes.
#ifndef STRAKE_CORE_OPS_MATMUL_CUBLASLT_MATMUL_H_
#define STRAKE_CORE_OPS_MATMUL_CUBLASLT_MATMUL_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/device/context.h"
#include "core/ops/matmul/matmul.h"
#include "core/ops/matmul/matmul_epilogue.h"
#include "core/tensor/tensor.h"

namespace strake {

// Returns what of the epilogue is left to the ops that follow the product. A dry run assumes that
// the library supports whatever its documented limits allow.
absl::StatusOr<MatmulOptions> RestOnCuda(const Context& ctx, const Tensor& a, const Tensor& b,
                                         const MatmulOptions& options, const MatmulSizes& sizes,
                                         const Tensor& c);

// The place where the library writes the sums of `options`, for the caller to add. Takes the memory
// that BiasAddBackward() would, since a dry run does not know whether the library will refuse.
Tensor AllocateLibrarySums(const Context& ctx, const Tensor& a, const Tensor& b,
                           const MatmulOptions& options);

// Enqueues the product. `sums` is AllocateLibrarySums(), or undefined if `rest` has the sums.
absl::Status MultiplyOnCuda(const Context& ctx, const Tensor& a, const Tensor& b,
                            const MatmulOptions& options, const MatmulOptions& rest,
                            const MatmulSizes& sizes, const Tensor& sums, const Tensor& c);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_MATMUL_CUBLASLT_MATMUL_H_
