// Token and position embedding of f32 and bf16. See core/ops/embedding/embedding.h and
// core/ops/embedding/position_embedding.h.
#ifndef STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_CPU_H_
#define STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/embedding/embedding_args.h"
#include "core/ops/embedding/position_embedding_args.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
// Computes y for tokens [begin, end).
template <typename T>
void EmbeddingForward(EmbeddingForwardArgs<T> args, int64_t begin, int64_t end);
// Computes columns [begin, end) of dtable, over all tokens.
template <typename T>
void EmbeddingBackward(EmbeddingBackwardArgs<T> args, int64_t begin, int64_t end);

// Computes rows [begin, end) of y.
template <typename T>
void PositionEmbeddingForward(const T* positions, RowPositions at, int64_t begin, int64_t end,
                              int64_t columns, T* y);
// Computes columns [begin, end) of dpositions, over all rows.
template <typename T>
void PositionEmbeddingBackward(const T* dy, RowPositions at, int64_t rows, int64_t columns,
                               int64_t begin, int64_t end, float* dpositions);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_CPU_H_
