// Embedding: looks up one row of a table per token. The table may hold a slice of the vocabulary;
// then the sum of y over the slices is that of the whole table.
//
//   y[n,:] = table[tokens[n] - slice.begin,:]     zeros where another slice has the token
//
// N tokens, R table rows, C columns. dtypes: i32 tokens; the other tensors f32, or bf16 with dtable
// in f32, or f64 and c128 on the reference path.
//
// A token outside [0, slice.vocab_size) is an error, whichever slice the call is for. On the CPU
// the call returns CheckTokens()'s error and writes nothing. On CUDA nothing waits for a kernel to
// report it, so the caller must check tokens on the host: an unchecked invalid token gives a row of
// NaN in y and adds nothing to dtable.
#ifndef STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_H_
#define STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/ops/vocab_slice.h"
#include "core/tensor/tensor.h"

namespace strake {

// Returns InvalidArgument, naming index and value, for the first token outside [0, vocab_size). The
// tokens are i32, in host memory.
absl::Status CheckTokens(const Tensor& tokens, int64_t vocab_size);

// y = [N, C], from tokens [N] and table [R, C].
absl::Status EmbeddingForward(const Context& ctx, const Tensor& tokens, const VocabSlice& slice,
                              const Tensor& table, Tensor y);

// dtable [R, C] += the sums of the rows of dy [N, C] by token, each summed before it is added, so
// that dtable gets the same bits where the sums are computed elsewhere; tokens of other slices, and
// padding, add nothing. The order of a sum's terms depends on the tokens alone. On the CPU it is
// the order of the tokens: the same bits with any number of threads.
absl::Status EmbeddingBackward(const Context& ctx, const Tensor& dy, const Tensor& tokens,
                               const VocabSlice& slice, Tensor dtable);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_H_
