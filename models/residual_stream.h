// ResidualStream: what one block passes to the next, with its last term not yet added.
#ifndef STRAKE_MODELS_RESIDUAL_STREAM_H_
#define STRAKE_MODELS_RESIDUAL_STREAM_H_

#include "core/tensor/tensor.h"

namespace strake {

// The stream is x + residual. The next norm adds the two in its own pass over memory, and writes
// the sum over x.
struct ResidualStream {
  Tensor x;              // [R, C], the last block's output, or the embedding
  Tensor residual = {};  // [R, C], the stream before it; undefined before the first block
};

}  // namespace strake

#endif  // STRAKE_MODELS_RESIDUAL_STREAM_H_
