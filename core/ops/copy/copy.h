// Copies and zeros, enqueued like every other op.
//
// Contiguous tensors of any dtype on the context's device. Source: none; they move bytes.
#ifndef STRAKE_CORE_OPS_COPY_COPY_H_
#define STRAKE_CORE_OPS_COPY_COPY_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// to = from. Both have the same dtype and number of elements; they either do not overlap or are the
// same tensor.
absl::Status Copy(const Context& ctx, const Tensor& from, Tensor to);

// to[r * to_stride + c] = from[r * from_stride + c] for r < rows, c < columns. Both are tensors of
// one dimension that end with the last row. A stride is at least `columns`.
absl::Status CopyRows(const Context& ctx, const Tensor& from, int64_t from_stride, int64_t rows,
                      int64_t columns, Tensor to, int64_t to_stride);

// x = 0.
absl::Status SetZero(const Context& ctx, Tensor x);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_COPY_COPY_H_
