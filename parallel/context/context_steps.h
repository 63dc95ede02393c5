// ContextSteps: which keys and values a context-parallel rank attends to, in which order, and which
// of them move.
//
// C ranks in a ring. In step 0 rank r attends to its own two chunks of each sequence. In step s it
// attends to those chunks of rank r - s (mod C) that its queries see, which come straight from
// there, and rank r + s gets chunks of r. Chunks that a mask or a window hides do not move.
// Gradients of keys and values go back from where their chunks went. Source: Liu et al., "Ring
// Attention with Blockwise Transformers for Near-Infinite Context", 2023, section 3; Dubey et al.,
// "The Llama 3 Herd of Models", 2024, section 3.3.2 (chunks).
#ifndef STRAKE_PARALLEL_CONTEXT_CONTEXT_STEPS_H_
#define STRAKE_PARALLEL_CONTEXT_CONTEXT_STEPS_H_

#include <vector>

#include "core/ops/attention/attention_shape.h"
#include "core/tensor/sequence_chunks.h"
#include "core/tensor/shard_range.h"

namespace strake {

// Queries of one chunk of the rank against keys of one chunk of the step's source. 0 is a rank's
// chunk at the lower positions, 1 the one at the higher.
struct ContextTile {
  int queries = 0;
  int keys = 0;
  bool operator==(const ContextTile&) const = default;
};

struct ContextStep {
  int from = 0, to = 0;  // ranks; this one in step 0
  ShardRange received = {},
             sent = {};  // chunks of `from` and of this rank that move; none in step 0
  std::vector<ContextTile> tiles = {};
};

// Returns the C steps of rank chunks.rank, for shape.seq_len tokens of each sequence on each rank.
// A chunk of queries meets its own keys first. Every rank does its messages in the order of steps,
// so step s of one rank matches step s of the others.
std::vector<ContextStep> ContextSteps(const SequenceChunks& chunks, const AttentionShape& shape);

}  // namespace strake

#endif  // STRAKE_PARALLEL_CONTEXT_CONTEXT_STEPS_H_
