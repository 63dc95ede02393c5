// TokenBatch: sequences of tokens, what is to be learnt of each, and the documents in them.
#ifndef STRAKE_DATA_TOKEN_BATCH_H_
#define STRAKE_DATA_TOKEN_BATCH_H_

#include <cstdint>
#include <vector>

#include "core/base/no_target.h"
#include "core/tensor/tensor.h"

namespace strake {

// What the documents of a stream are to a model.
enum class DocumentMode : uint8_t {
  kConcat = 0,  // text: they follow each other, and each sees those before it in its row
  kMask = 1,    // each sees itself alone; several are packed into a row
  kPad = 2,     // a row holds one, and padding
};

// B sequences of T tokens, in host memory.
struct TokenBatch {
  Tensor tokens = {};   // [B*T] i32
  Tensor targets = {};  // [B*T] i32, kNoTarget where nothing is to be learnt
  // [B*T] i32, of each token in its document; undefined: a document per sequence.
  Tensor positions = {};
  // The numbers of tokens of all documents, padding included, in order; empty where there are no
  // positions. As core/ops/documents.h has them.
  std::vector<int64_t> lengths = {};
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKEN_BATCH_H_
