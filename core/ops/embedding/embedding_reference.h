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
  const int64_t size = end - begin;
  Array<Scalar> sum(args.row_sum + begin, size);
  sum.setZero();
  for (int64_t place = 0; place < args.num_tokens; ++place) {
    const int64_t n = args.order[place], row = args.tokens[n] - args.slice.begin;
    if (row < 0 || row >= args.table_rows) continue;
    sum += ConstArray<Scalar>(args.dy + n * args.columns + begin, size);
    const bool last = place + 1 == args.num_tokens;
    if (!last && args.tokens[args.order[place + 1]] == args.tokens[n]) continue;
    Array<Scalar>(args.dtable + row * args.columns + begin, size) += sum;
    sum.setZero();
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_REFERENCE_H_
