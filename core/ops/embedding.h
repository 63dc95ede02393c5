// Embedding: one row of a table per token, with a learned position's row added where there is one.
//
//   y[n,:] = table[tokens[n],:] + positions[position_offset + n mod T,:]
//
// N tokens in sequences of T, V table rows, P positions, C columns. `positions` may be undefined:
// then that term is absent. dtypes: tokens i32; the others f32, or f64 and c128 on the reference
// path. CHECKs that N is a multiple of T and position_offset + T <= P.
#ifndef STRAKE_CORE_OPS_EMBEDDING_H_
#define STRAKE_CORE_OPS_EMBEDDING_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// y = [N, C], from tokens [N], table [V, C], positions [P, C]. InvalidArgument, naming index and
// value, for a token outside [0, V).
absl::Status EmbeddingForward(const Context& ctx, const Tensor& tokens, const Tensor& table,
                              const Tensor& positions, int64_t seq_len, int64_t position_offset,
                              Tensor y);

// dtable [V, C] += dy's rows by token; dpositions [P, C] += dy's rows by position (offset 0), where
// defined. Terms are added in the order of tokens: the same bits with any number of threads.
absl::Status EmbeddingBackward(const Context& ctx, const Tensor& dy, const Tensor& tokens,
                               int64_t seq_len, Tensor dtable, Tensor dpositions);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_EMBEDDING_H_
