#include "core/ops/attention/causal_attention_cpu.h"

#include <algorithm>
#include <vector>

namespace strake::cpu {
namespace {

// The end of the blocks of queries that see any key of a block.
int64_t EndOfQueries(const AttentionShape& shape, int64_t block) {
  const int64_t blocks = NumAttentionBlocks(shape.seq_len);
  if (shape.window == 0 || shape.window >= shape.seq_len) return blocks;
  return std::min(blocks, NumAttentionBlocks((block + 1) * kAttentionBlock + shape.window - 1));
}

// The unit of the backward pass of one key/value head: all of it.
AttentionBackwardUnit WholeHead(const AttentionShape& shape, int64_t head) {
  const int64_t blocks = NumAttentionBlocks(shape.seq_len);
  return {.batch = head / shape.num_kv_heads,
          .kv_head = head % shape.num_kv_heads,
          .q_end = blocks,
          .k_end = blocks,
          .want_dq = true,
          .want_dkv = true};
}

// One of the units of all heads, each of one block: dq of a block of queries, or dk and dv of a
// block of keys.
AttentionBackwardUnit OneBlock(const AttentionShape& shape, int64_t unit, bool want_dq) {
  const int64_t blocks = NumAttentionBlocks(shape.seq_len), head = unit / blocks;
  const int64_t block = BalancedAttentionBlock(unit % blocks, blocks);
  return {.batch = head / shape.num_kv_heads,
          .kv_head = head % shape.num_kv_heads,
          .q_begin = want_dq ? block : 0,
          .q_end = want_dq ? block + 1 : EndOfQueries(shape, block),
          .k_begin = want_dq ? shape.FirstKey(block * kAttentionBlock) / kAttentionBlock : block,
          .k_end = block + 1,
          .want_dq = want_dq,
          .want_dkv = !want_dq};
}

// The documents of a batch, one after the other, with `per_block` units for each of their blocks.
class DocumentUnits {
 public:
  DocumentUnits(absl::Span<const int64_t> lengths, int64_t per_block) {
    for (const int64_t length : lengths) {
      first_token_.push_back(first_token_.back() + length);
      first_unit_.push_back(first_unit_.back() + per_block * NumAttentionBlocks(length));
    }
  }
  int64_t count() const { return first_unit_.back(); }
  int64_t FirstToken(int64_t document) const { return first_token_[document]; }

  // Calls body(document, its first unit, its last unit + 1) for the parts of [begin, end).
  template <typename Body>
  void ForEach(int64_t begin, int64_t end, const Body& body) const {
    int64_t d =
        std::upper_bound(first_unit_.begin(), first_unit_.end(), begin) - first_unit_.begin() - 1;
    for (; begin < end; ++d) {
      const int64_t stop = std::min(end, first_unit_[d + 1]);
      body(d, begin - first_unit_[d], stop - first_unit_[d]);
      begin = stop;
    }
  }

 private:
  std::vector<int64_t> first_token_ = {0}, first_unit_ = {0};
};

// The shape of a document as a batch of one sequence.
AttentionShape DocumentShape(const AttentionShape& shape, int64_t length) {
  AttentionShape document = shape;
  document.batch = 1;
  document.seq_len = length;
  return document;
}

template <typename T>
AttentionInputs<T> InputsFrom(const AttentionInputs<T>& in, int64_t token) {
  return {in.q + token * in.q_stride, in.q_stride, in.k + token * in.kv_stride,
          in.v + token * in.kv_stride, in.kv_stride};
}

// The first head's lse of a token of the batch.
int64_t LseAt(const AttentionShape& shape, int64_t token) {
  return token / shape.seq_len * shape.num_heads * shape.seq_len + token % shape.seq_len;
}

template <typename T>
void ForwardDocuments(ThreadTeam& team, const AttentionInputs<T>& inputs,
                      const AttentionShape& shape, absl::Span<const int64_t> lengths,
                      float* scratch, T* y, float* lse) {
  const int64_t size = CausalAttentionForwardScratch(shape.seq_len, shape.head_dim);
  const DocumentUnits units(lengths, shape.num_heads);
  team.ParallelForRanges(units.count(), 1, [&](int thread, int64_t begin, int64_t end) {
    units.ForEach(begin, end, [&](int64_t document, int64_t first, int64_t last) {
      const int64_t token = units.FirstToken(document);
      STRAKE_CPU_RUN(AttentionForward(
          InputsFrom(inputs, token), DocumentShape(shape, lengths[document]), /*past=*/0, first,
          last, scratch + thread * size, y + token * shape.num_heads * shape.head_dim,
          lse + LseAt(shape, token), shape.seq_len));
    });
  });
}

template <typename T>
AttentionGradients<T> GradientsFrom(const AttentionGradients<T>& g, const AttentionShape& document,
                                    int64_t token) {
  const int64_t row = token * g.inputs.q_stride;
  const int64_t out = token * document.num_heads * document.head_dim;
  return {.shape = document,
          .inputs = InputsFrom(g.inputs, token),
          .dy = g.dy + out,
          .y = g.y + out,
          .lse = g.lse + LseAt(g.shape, token),
          .lse_stride = g.lse_stride,
          .dq = g.dq + row,
          .dk = g.dk + row,
          .dv = g.dv + row};
}

// Returns whether the heads of documents keep the threads busy: the longest one's work is no more
// than a thread's share.
bool EnoughHeads(const AttentionShape& shape, absl::Span<const int64_t> lengths, int num_threads) {
  double all = 0, longest = 0;
  for (const int64_t length : lengths) {
    const double pairs = DocumentShape(shape, length).NumPairs();
    all += pairs;
    longest = std::max(longest, pairs);
  }
  return all * shape.num_kv_heads >= longest * num_threads;
}

template <typename T>
void BackwardDocuments(ThreadTeam& team, const AttentionGradients<T>& gradients,
                       absl::Span<const int64_t> lengths, float* scratch) {
  const AttentionShape& shape = gradients.shape;
  const int64_t size = CausalAttentionBackwardScratch(shape.seq_len, shape.head_dim);
  const DocumentUnits units(lengths, shape.num_kv_heads);
  const auto run = [&](int thread, int64_t document, const auto& unit_of) {
    const AttentionShape s = DocumentShape(shape, lengths[document]);
    STRAKE_CPU_RUN(AttentionBackward(GradientsFrom(gradients, s, units.FirstToken(document)),
                                     unit_of(s), scratch + thread * size));
  };
  if (EnoughHeads(shape, lengths, team.num_threads())) {
    const int64_t heads = shape.num_kv_heads;
    team.ParallelForTasks(lengths.size() * heads, [&](int thread, int64_t task) {
      run(thread, task / heads,
          [&](const AttentionShape& s) { return WholeHead(s, task % heads); });
    });
    return;
  }
  for (const bool want_dq : {false, true}) {
    team.ParallelForRanges(units.count(), 1, [&](int thread, int64_t begin, int64_t end) {
      units.ForEach(begin, end, [&](int64_t document, int64_t first, int64_t last) {
        for (int64_t unit = first; unit < last; ++unit) {
          run(thread, document,
              [&](const AttentionShape& s) { return OneBlock(s, unit, want_dq); });
        }
      });
    });
  }
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
                            float* lse, absl::Span<const int64_t> lengths) {
  if (!lengths.empty()) {
    return ForwardDocuments(team, inputs, shape, lengths, scratch, y, lse);
  }
  const int64_t size = CausalAttentionForwardScratch(past + shape.seq_len, shape.head_dim);
  const auto run = [&](int thread, int64_t begin, int64_t end) {
    STRAKE_CPU_RUN(AttentionForward(inputs, shape, past, begin, end, scratch + thread * size, y,
                                    lse, shape.seq_len));
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
                             float* scratch, absl::Span<const int64_t> lengths) {
  if (!lengths.empty()) return BackwardDocuments(team, gradients, lengths, scratch);
  const AttentionShape& shape = gradients.shape;
  const int64_t blocks = NumAttentionBlocks(shape.seq_len);
  const int64_t heads = shape.batch * shape.num_kv_heads;
  const int64_t size = CausalAttentionBackwardScratch(shape.seq_len, shape.head_dim);
  const auto run = [&](int thread, const AttentionBackwardUnit& unit) {
    STRAKE_CPU_RUN(AttentionBackward(gradients, unit, scratch + thread * size));
  };
  if (heads >= team.num_threads() || blocks == 1) {
    team.ParallelForTasks(heads,
                          [&](int thread, int64_t head) { run(thread, WholeHead(shape, head)); });
    return;
  }
  // Too few heads for the threads: processes blocks of keys, then blocks of queries, at the cost of
  // computing the probabilities twice.
  for (const bool want_dq : {false, true}) {
    team.ParallelForRanges(heads * blocks, 1, [&](int thread, int64_t begin, int64_t end) {
      for (int64_t unit = begin; unit < end; ++unit) run(thread, OneBlock(shape, unit, want_dq));
    });
  }
}

#define STRAKE_INSTANTIATE(T)                                                              \
  template void CausalAttentionForward(ThreadTeam&, const AttentionInputs<T>&,             \
                                       const AttentionShape&, int64_t, float*, T*, float*, \
                                       absl::Span<const int64_t>);                         \
  template void CausalAttentionBackward(ThreadTeam&, const AttentionGradients<T>&, float*, \
                                        absl::Span<const int64_t>);
STRAKE_INSTANTIATE(float)
STRAKE_INSTANTIATE(Bf16)

}  // namespace strake::cpu
