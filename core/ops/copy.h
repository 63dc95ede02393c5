// Copies and zeros, enqueued like every other op.
//
// Contiguous tensors of any dtype on the context's device. Source: none; they move bytes.
#ifndef STRAKE_CORE_OPS_COPY_H_
#define STRAKE_CORE_OPS_COPY_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// to = from: equal dtypes and numbers of elements; they do not overlap, or are the same.
absl::Status Copy(const Context& ctx, const Tensor& from, Tensor to);

// x = 0.
absl::Status SetZero(const Context& ctx, Tensor x);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_COPY_H_
