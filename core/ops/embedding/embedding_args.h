// Arguments of the kernels of Embedding: the reference, the CPU's and CUDA's.
//
// N tokens, R rows of the table, C columns. T is the tensors' type; Sum is the type of weight
// gradients, f32 for f32 and bf16.
#ifndef STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_ARGS_H_
#define STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_ARGS_H_

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "core/ops/vocab_slice.h"

namespace strake {

template <typename T>
struct EmbeddingForwardArgs {
  const int32_t* tokens;  // [N]
  int64_t num_tokens;
  VocabSlice slice;
  const T* table;  // [R, C]
  int64_t table_rows, columns;
  T* y;  // [N, C]
};

template <typename T, typename Sum = float>
struct EmbeddingBackwardArgs {
  const T* dy;            // [N, C]
  const int32_t* tokens;  // [N]
  int64_t num_tokens;
  VocabSlice slice;
  int64_t table_rows, columns;
  Sum* dtable;                     // [R, C], +=
  void* workspace = nullptr;       // CUDA's
  const int32_t* order = nullptr;  // [N], of SortByToken()
  Sum* row_sum = nullptr;          // [C]; both on the CPU alone
};

// Fills `order` with the indices of `tokens`, sorted by token, then by index.
inline void SortByToken(const int32_t* tokens, int64_t num_tokens, int32_t* order) {
  std::iota(order, order + num_tokens, 0);
  std::sort(order, order + num_tokens, [&](int32_t a, int32_t b) {
    return tokens[a] != tokens[b] ? tokens[a] < tokens[b] : a < b;
  });
}

}  // namespace strake

#endif  // STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_ARGS_H_
