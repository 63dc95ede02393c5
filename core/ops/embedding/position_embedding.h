// Position embedding: adds to each row the learned row of its position.
//
//   y[n,:] += positions[(offset + n) mod period,:], or positions[row_positions[n],:] where given
//
// N rows, P positions, C columns. In training the period is the sequence length, and the offset is
// the index of the first row if the rows are part of a batch. In generation the period is P, and
// the offset is the number of tokens so far. CHECKs 0 < period <= P and offset >= 0.
// Row positions [N] are i32, in [0, P), as those of documents (core/ops/documents.h); period and
// offset then do not matter. On the CPU one outside is CheckPositions()'s error, before anything is
// written. On CUDA nothing waits for a kernel to report it: its row of y is NaN, and its row of dy
// adds nothing.
// dtypes: f32; bf16, with dpositions in f32; f64 and c128 on the reference path. All other tensors
// share one dtype.
#ifndef STRAKE_CORE_OPS_EMBEDDING_POSITION_EMBEDDING_H_
#define STRAKE_CORE_OPS_EMBEDDING_POSITION_EMBEDDING_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// y [N, C] +=, from positions [P, C].
absl::Status PositionEmbeddingForward(const Context& ctx, const Tensor& positions, int64_t period,
                                      int64_t offset, Tensor y, const Tensor& row_positions = {});

// dpositions [P, C] += the rows of dy [N, C] by position. dy is also the gradient of the forward
// pass's y before the addition. Terms are added in the order of rows: the same bits with any number
// of threads. On CUDA with row positions, the order depends on these alone.
absl::Status PositionEmbeddingBackward(const Context& ctx, const Tensor& dy, int64_t period,
                                       int64_t offset, Tensor dpositions,
                                       const Tensor& row_positions = {});

}  // namespace strake

#endif  // STRAKE_CORE_OPS_EMBEDDING_POSITION_EMBEDDING_H_
