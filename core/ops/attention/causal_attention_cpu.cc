#include "core/ops/attention/causal_attention_cpu.h"

#include <algorithm>

namespace strake::cpu {
namespace {

// The end of the blocks of queries that see any key of a block.
int64_t EndOfQueries(const AttentionShape& shape, int64_t block) {
  const int64_t blocks = NumAttentionBlocks(shape.seq_len);
  if (shape.window == 0 || shape.window >= shape.seq_len) return blocks;
  return std::min(blocks, NumAttentionBlocks((block + 1) * kAttentionBlock + shape.window - 1));
}

}  // namespace

int64_t CausalAttentionForwardScratch(int64_t num_keys, int64_t head_dim) {
  return STRAKE_CPU_RUN(AttentionForwardScratch(num_keys, head_dim));
}

int64_t CausalAttentionBackwardScratch(int64_t num_keys, int64_t head_dim) {
  return STRAKE_CPU_RUN(AttentionBackwardScratch(num_keys, head_dim));
}

template <typename T>
void CausalAttentionForward(ThreadTeam& team, const AttentionInputs<T>& inputs,
                            const AttentionShape& shape, int64_t past, float* scratch, T* y,
                            float* lse) {
  const int64_t size = CausalAttentionForwardScratch(past + shape.seq_len, shape.head_dim);
  const auto run = [&](int thread, int64_t begin, int64_t end) {
    STRAKE_CPU_RUN(
        AttentionForward(inputs, shape, past, begin, end, scratch + thread * size, y, lse));
  };
  // A unit is one key/value head, whose keys are packed once.
  const int64_t heads = shape.batch * shape.num_kv_heads;
  const int64_t units = shape.num_heads / shape.num_kv_heads * NumAttentionBlocks(shape.seq_len);
  // Enough heads that the last one to finish does not matter.
  if (heads >= 4 * team.num_threads()) {
    team.ParallelForTasks(
        heads, [&](int thread, int64_t head) { run(thread, head * units, (head + 1) * units); });
  } else {
    team.ParallelForRanges(heads * units, 1, run);
  }
}

template <typename T>
void CausalAttentionBackward(ThreadTeam& team, const AttentionGradients<T>& gradients,
                             float* scratch) {
  const AttentionShape& shape = gradients.shape;
  const int64_t blocks = NumAttentionBlocks(shape.seq_len);
  const int64_t heads = shape.batch * shape.num_kv_heads;
  const int64_t size = CausalAttentionBackwardScratch(shape.seq_len, shape.head_dim);
  const auto run = [&](int thread, int64_t head, AttentionBackwardUnit unit) {
    unit.batch = head / shape.num_kv_heads;
    unit.kv_head = head % shape.num_kv_heads;
    STRAKE_CPU_RUN(AttentionBackward(gradients, unit, scratch + thread * size));
  };
  if (heads >= team.num_threads() || blocks == 1) {
    team.ParallelForTasks(heads, [&](int thread, int64_t head) {
      run(thread, head, {.q_end = blocks, .k_end = blocks, .want_dq = true, .want_dkv = true});
    });
    return;
  }
  // Too few heads for the threads: processes blocks of keys, then blocks of queries, at the cost of
  // computing the probabilities twice.
  for (const bool want_dq : {false, true}) {
    team.ParallelForRanges(heads * blocks, 1, [&](int thread, int64_t begin, int64_t end) {
      for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t block = BalancedAttentionBlock(unit % blocks, blocks);
        run(thread, unit / blocks,
            {.q_begin = want_dq ? block : 0,
             .q_end = want_dq ? block + 1 : EndOfQueries(shape, block),
             .k_begin = want_dq ? shape.FirstKey(block * kAttentionBlock) / kAttentionBlock : block,
             .k_end = block + 1,
             .want_dq = want_dq,
             .want_dkv = !want_dq});
      }
    });
  }
}

#define STRAKE_INSTANTIATE(T)                                                               \
  template void CausalAttentionForward(ThreadTeam&, const AttentionInputs<T>&,              \
                                       const AttentionShape&, int64_t, float*, T*, float*); \
  template void CausalAttentionBackward(ThreadTeam&, const AttentionGradients<T>&, float*);
STRAKE_INSTANTIATE(float)
STRAKE_INSTANTIATE(Bf16)

}  // namespace strake::cpu
