// Reductions over ranks whose buffers one process can read, always from rank 0 upwards: the bits
// depend neither on the order in which ranks arrive nor on how the elements are cut into pieces.
//
//   sum:  outputs[d][i] = ((inputs[0][i] + inputs[1][i]) + inputs[2][i]) + ...   for every d
//   max:  outputs[d][i] = max(inputs[0][i], inputs[1][i], ...)                   for every d
//
// dtypes: all; not c128 for max. bf16 is summed in f32 and rounded once, integers wrap, and in max
// a NaN wins.
#ifndef STRAKE_PARALLEL_COMM_REDUCE_IN_RANK_ORDER_H_
#define STRAKE_PARALLEL_COMM_REDUCE_IN_RANK_ORDER_H_

#include <cstdint>

#include "absl/types/span.h"
#include "core/base/dtype.h"

namespace strake {

// `count` elements; inputs in rank order, at least one. An output may be an input.
void SumInRankOrder(DType dtype, absl::Span<const void* const> inputs, int64_t count,
                    absl::Span<void* const> outputs);
void MaxInRankOrder(DType dtype, absl::Span<const void* const> inputs, int64_t count,
                    absl::Span<void* const> outputs);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_REDUCE_IN_RANK_ORDER_H_
