#include "parallel/context/context_steps.h"

#include <algorithm>
#include <cstdint>

#include "core/ops/attention/partial_attention.h"

namespace strake {
namespace {

TokenSpan SpanOf(const ShardRange& chunk) {
  return {.position = chunk.begin, .count = chunk.size()};
}

// The pairs of chunks of two ranks that see something. The nearest keys are first, which are the
// own ones within a rank.
std::vector<ContextTile> TilesOf(const SequenceChunks& queries, const SequenceChunks& keys,
                                 const AttentionShape& shape) {
  const int64_t seq_len = shape.seq_len * queries.num_ranks;
  std::vector<ContextTile> tiles;
  for (const int q : {0, 1}) {
    for (const int k : {1, 0}) {
      if (SeesAny(shape, SpanOf(queries.Of(seq_len)[q]), SpanOf(keys.Of(seq_len)[k]))) {
        tiles.push_back({.queries = q, .keys = k});
      }
    }
  }
  return tiles;
}

ShardRange KeysOf(const std::vector<ContextTile>& tiles) {
  if (tiles.empty()) return {};
  const auto [first, last] = std::minmax_element(
      tiles.begin(), tiles.end(), [](const auto& a, const auto& b) { return a.keys < b.keys; });
  return {first->keys, last->keys + 1};
}

}  // namespace

std::vector<ContextStep> ContextSteps(const SequenceChunks& chunks, const AttentionShape& shape) {
  const int num_ranks = chunks.num_ranks, rank = chunks.rank;
  std::vector<ContextStep> steps = {
      {.from = rank, .to = rank, .tiles = TilesOf(chunks, chunks, shape)}};
  for (int s = 1; s < num_ranks; ++s) {
    const int from = (rank - s + num_ranks) % num_ranks, to = (rank + s) % num_ranks;
    const auto tiles = TilesOf(chunks, {from, num_ranks}, shape);
    steps.push_back({.from = from,
                     .to = to,
                     .received = KeysOf(tiles),
                     .sent = KeysOf(TilesOf({to, num_ranks}, chunks, shape)),
                     .tiles = tiles});
  }
  return steps;
}

}  // namespace strake
