// Embedding by definition. See core/ops/embedding.h.
#ifndef STRAKE_CORE_OPS_REFERENCE_EMBEDDING_H_
#define STRAKE_CORE_OPS_REFERENCE_EMBEDDING_H_

#include <cstdint>

#include "core/ops/reference/eigen.h"

namespace strake::reference {

// y of tokens [begin, end). `positions` starts at the position of token 0, or is null.
template <typename Scalar>
void EmbeddingForward(const int32_t* tokens, const Scalar* table, const Scalar* positions,
                      int64_t seq_len, int64_t columns, int64_t begin, int64_t end, Scalar* y) {
  for (int64_t n = begin; n < end; ++n) {
    const ConstArray<Scalar> row(table + tokens[n] * columns, columns);
    Array<Scalar> out(y + n * columns, columns);
    if (positions == nullptr) {
      out = row;
    } else {
      out = row + ConstArray<Scalar>(positions + n % seq_len * columns, columns);
    }
  }
}

// Columns [begin, end) of both gradients, over all tokens. `dpositions` may be null.
template <typename Scalar>
void EmbeddingBackward(const Scalar* dy, const int32_t* tokens, int64_t num_tokens, int64_t seq_len,
                       int64_t columns, int64_t begin, int64_t end, Scalar* dtable,
                       Scalar* dpositions) {
  for (int64_t n = 0; n < num_tokens; ++n) {
    const ConstArray<Scalar> row(dy + n * columns + begin, end - begin);
    Array<Scalar>(dtable + tokens[n] * columns + begin, end - begin) += row;
    if (dpositions == nullptr) continue;
    Array<Scalar>(dpositions + n % seq_len * columns + begin, end - begin) += row;
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_REFERENCE_EMBEDDING_H_
