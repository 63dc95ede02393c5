// Token and position embedding of f32 and bf16. See core/ops/embedding/embedding.h and
// core/ops/embedding/position_embedding.h.
#ifndef STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_CPU_H_
#define STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
// `first` is the token of the table's row 0.
template <typename T>
void EmbeddingForward(const int32_t* tokens, int64_t num_tokens, int64_t first, const T* table,
                      int64_t table_rows, int64_t columns, T* y);
// Columns [begin, end) of dtable, over all tokens.
template <typename T>
void EmbeddingBackward(const T* dy, const int32_t* tokens, int64_t num_tokens, int64_t first,
                       int64_t table_rows, int64_t columns, int64_t begin, int64_t end,
                       float* dtable);

// Row n is at position offset + n mod period.
template <typename T>
void PositionEmbeddingForward(const T* positions, int64_t period, int64_t offset, int64_t rows,
                              int64_t columns, T* y);
// Columns [begin, end) of dpositions, over all rows.
template <typename T>
void PositionEmbeddingBackward(const T* dy, int64_t period, int64_t offset, int64_t rows,
                               int64_t columns, int64_t begin, int64_t end, float* dpositions);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_CPU_H_
