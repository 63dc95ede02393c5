// Embedding by definition. See core/ops/embedding/embedding.h.
#ifndef STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_REFERENCE_H_
#define STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_REFERENCE_H_

#include <cstdint>

#include "core/ops/reference_eigen.h"

namespace strake::reference {

// `first` is the token of the table's row 0.
template <typename Scalar>
void EmbeddingForward(const int32_t* tokens, int64_t num_tokens, int64_t first, const Scalar* table,
                      int64_t table_rows, int64_t columns, Scalar* y) {
  for (int64_t n = 0; n < num_tokens; ++n) {
    const int64_t row = tokens[n] - first;
    Array<Scalar> out(y + n * columns, columns);
    if (row >= 0 && row < table_rows) {
      out = ConstArray<Scalar>(table + row * columns, columns);
    } else {
      out.setZero();
    }
  }
}

// Columns [begin, end) of dtable, over all tokens.
template <typename Scalar>
void EmbeddingBackward(const Scalar* dy, const int32_t* tokens, int64_t num_tokens, int64_t first,
                       int64_t table_rows, int64_t columns, int64_t begin, int64_t end,
                       Scalar* dtable) {
  for (int64_t n = 0; n < num_tokens; ++n) {
    const int64_t row = tokens[n] - first;
    if (row < 0 || row >= table_rows) continue;
    Array<Scalar>(dtable + row * columns + begin, end - begin) +=
        ConstArray<Scalar>(dy + n * columns + begin, end - begin);
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_REFERENCE_H_
