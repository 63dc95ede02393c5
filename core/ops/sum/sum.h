// Sum of a vector's elements, added to a total.
//
//   total += sum_i x[i]
//
// N elements. dtypes: x f32 or f64; total f64. Sums in f64, in an order that depends on N alone.
#ifndef STRAKE_CORE_OPS_SUM_SUM_H_
#define STRAKE_CORE_OPS_SUM_SUM_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// total [1] +=, from x [N].
absl::Status AddSum(const Context& ctx, const Tensor& x, Tensor total);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_SUM_SUM_H_
