// Reference implementation of the position embedding. See core/ops/embedding/position_embedding.h.
#ifndef STRAKE_CORE_OPS_EMBEDDING_POSITION_EMBEDDING_REFERENCE_H_
#define STRAKE_CORE_OPS_EMBEDDING_POSITION_EMBEDDING_REFERENCE_H_

#include <cstdint>

#include "core/ops/embedding/position_embedding_args.h"
#include "core/ops/reference_eigen.h"

namespace strake::reference {

// Computes rows [begin, end) of y.
template <typename Scalar>
void PositionEmbeddingForward(const Scalar* positions, const RowPositions& at, int64_t begin,
                              int64_t end, int64_t columns, Scalar* y) {
  for (int64_t n = begin; n < end; ++n) {
    Array<Scalar>(y + n * columns, columns) +=
        ConstArray<Scalar>(positions + at(n) * columns, columns);
  }
}

// Computes columns [begin, end) of dpositions, over all rows.
template <typename Scalar>
void PositionEmbeddingBackward(const Scalar* dy, const RowPositions& at, int64_t rows,
                               int64_t columns, int64_t begin, int64_t end, Scalar* dpositions) {
  for (int64_t n = 0; n < rows; ++n) {
    Array<Scalar>(dpositions + at(n) * columns + begin, end - begin) +=
        ConstArray<Scalar>(dy + n * columns + begin, end - begin);
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_EMBEDDING_POSITION_EMBEDDING_REFERENCE_H_
