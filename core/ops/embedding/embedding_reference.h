// Reference implementation of the embedding. See core/ops/embedding/embedding.h.
#ifndef STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_REFERENCE_H_
#define STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_REFERENCE_H_

#include <cstdint>

#include "core/ops/embedding/embedding_args.h"
#include "core/ops/reference_eigen.h"

namespace strake::reference {

// Computes y for tokens [begin, end).
template <typename Scalar>
void EmbeddingForward(const EmbeddingForwardArgs<Scalar>& args, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; ++n) {
    const int64_t row = args.tokens[n] - args.slice.begin;
    Array<Scalar> out(args.y + n * args.columns, args.columns);
    if (row >= 0 && row < args.table_rows) {
      out = ConstArray<Scalar>(args.table + row * args.columns, args.columns);
    } else {
      out.setZero();
    }
  }
}

// Computes columns [begin, end) of dtable, over all tokens.
template <typename Scalar>
void EmbeddingBackward(const EmbeddingBackwardArgs<Scalar, Scalar>& args, int64_t begin,
                       int64_t end) {
  for (int64_t n = 0; n < args.num_tokens; ++n) {
    const int64_t row = args.tokens[n] - args.slice.begin;
    if (row < 0 || row >= args.table_rows) continue;
    Array<Scalar>(args.dtable + row * args.columns + begin, end - begin) +=
        ConstArray<Scalar>(args.dy + n * args.columns + begin, end - begin);
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_REFERENCE_H_
