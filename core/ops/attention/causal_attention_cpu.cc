#include "core/ops/attention/causal_attention_cpu.h"

#include <algorithm>
#include <vector>

namespace strake::cpu {
namespace {

// The shape of a segment as a batch of one sequence.
AttentionShape ShapeOf(const AttentionShape& shape, const AttentionSegment& segment) {
  AttentionShape one = shape;
  one.batch = 1;
  one.seq_len = segment.num_queries;
  return one;
}

AttentionKeys KeysOf(const AttentionSegment& segment) { return {segment.past, segment.num_keys}; }

// The first block of keys that any query from `query` on sees.
int64_t FirstBlockOfKeys(const AttentionShape& shape, const AttentionSegment& s, int64_t query) {
  return shape.FirstKey(s.past + query) / kAttentionBlock;
}

// The unit of the backward pass of one key/value head of a segment: all of it.
AttentionBackwardUnit WholeHead(const AttentionShape& shape, const AttentionSegment& s,
                                int64_t kv_head) {
  return {.kv_head = kv_head,
          .q_end = NumAttentionBlocks(s.num_queries),
          .k_begin = FirstBlockOfKeys(shape, s, 0),
          .k_end = NumAttentionBlocks(s.num_keys),
          .want_dq = true,
          .want_dkv = true};
}

int64_t NumBlocks(const AttentionSegment& s, bool want_dq) {
  return NumAttentionBlocks(want_dq ? s.num_queries : s.num_keys);
}

// One of the units of all heads of a segment, each of one block: dq of a block of queries, or dk
// and dv of a block of keys.
AttentionBackwardUnit OneBlock(const AttentionShape& shape, const AttentionSegment& s, int64_t unit,
                               bool want_dq) {
  const int64_t blocks = NumBlocks(s, want_dq);
  const int64_t block = BalancedAttentionBlock(unit % blocks, blocks);
  const int64_t begin = block * kAttentionBlock, end = begin + kAttentionBlock;
  AttentionBackwardUnit result = {
      .kv_head = unit / blocks, .want_dq = want_dq, .want_dkv = !want_dq};
  if (want_dq) {
    result.q_begin = block;
    result.q_end = block + 1;
    result.k_begin = FirstBlockOfKeys(shape, s, begin);
    result.k_end = NumAttentionBlocks(std::min(s.num_keys, s.past + end));
  } else {
    // The queries that see any of the block's keys.
    const int64_t first = std::max<int64_t>(0, begin - s.past);
    const bool windowed = shape.window != 0 && shape.window < s.past + s.num_queries;
    const int64_t last =
        windowed ? std::min(s.num_queries, end + shape.window - 1 - s.past) : s.num_queries;
    result.q_begin = first / kAttentionBlock;
    result.q_end = NumAttentionBlocks(std::max(first, last));
    result.k_begin = block;
    result.k_end = block + 1;
  }
  return result;
}

// Segments, one after the other, with the units that `units_of` gives each.
class SegmentUnits {
 public:
  template <typename UnitsOf>
  SegmentUnits(absl::Span<const AttentionSegment> segments, const UnitsOf& units_of) {
    for (const AttentionSegment& segment : segments) {
      first_.push_back(first_.back() + units_of(segment));
    }
  }
  int64_t count() const { return first_.back(); }

  // Calls body(segment's index, its first unit, its last unit + 1) for the parts of [begin, end).
  template <typename Body>
  void ForEach(int64_t begin, int64_t end, const Body& body) const {
    int64_t s = std::upper_bound(first_.begin(), first_.end(), begin) - first_.begin() - 1;
    for (; begin < end; ++s) {
      const int64_t stop = std::min(end, first_[s + 1]);
      body(s, begin - first_[s], stop - first_[s]);
      begin = stop;
    }
  }

 private:
  std::vector<int64_t> first_ = {0};
};

// Documents of these lengths, one after the other.
std::vector<AttentionSegment> DocumentSegments(absl::Span<const int64_t> lengths) {
  std::vector<AttentionSegment> segments;
  int64_t token = 0;
  for (const int64_t length : lengths) {
    segments.push_back({token, length, token, length});
    token += length;
  }
  return segments;
}

template <typename T>
AttentionInputs<T> InputsFrom(const AttentionInputs<T>& in, const AttentionSegment& s) {
  return {in.q + s.query * in.q_stride, in.q_stride, in.k + s.key * in.kv_stride,
          in.v + s.key * in.kv_stride, in.kv_stride};
}

// The first head's lse of a row of the queries.
int64_t LseAt(const AttentionShape& shape, int64_t query) {
  return query / shape.seq_len * shape.num_heads * shape.seq_len + query % shape.seq_len;
}

// Rows of y, dy, of all heads.
int64_t OutputAt(const AttentionShape& shape, int64_t query) {
  return query * shape.num_heads * shape.head_dim;
}

// `shape` is the segment's, and outlives the result.
template <typename T, typename Gradient>
AttentionGradients<T, Gradient> GradientsFrom(const AttentionGradients<T, Gradient>& g,
                                              const AttentionSegment& s,
                                              const AttentionShape& shape) {
  const int64_t out = OutputAt(shape, s.query), key = s.key * g.dkv_stride;
  return {.shape = shape,
          .keys = KeysOf(s),
          .inputs = InputsFrom(g.inputs, s),
          .dy = g.dy + out,
          .y = g.y + out,
          .lse = g.lse + LseAt(g.shape, s.query),
          .lse_stride = g.lse_stride,
          .dq = g.dq + s.query * g.dq_stride,
          .dq_stride = g.dq_stride,
          .dk = g.dk + key,
          .dv = g.dv + key,
          .dkv_stride = g.dkv_stride,
          .accumulate = g.accumulate};
}

// Returns whether the heads of segments keep the threads busy: the longest one's work is no more
// than a thread's share, or none is longer than a block.
bool EnoughHeads(const AttentionShape& shape, absl::Span<const AttentionSegment> segments,
                 int num_threads) {
  double all = 0, longest = 0;
  int64_t blocks = 0;
  for (const AttentionSegment& segment : segments) {
    const double pairs = segment.NumPairs(shape);
    all += pairs;
    longest = std::max(longest, pairs);
    blocks = std::max({blocks, NumBlocks(segment, true), NumBlocks(segment, false)});
  }
  return blocks <= 1 || all * shape.num_kv_heads >= longest * num_threads;
}

}  // namespace

int64_t CausalAttentionForwardScratch(int64_t num_keys, int64_t head_dim) {
  return STRAKE_CPU_RUN(AttentionForwardScratch(num_keys, head_dim));
}

int64_t CausalAttentionBackwardScratch(int64_t num_keys, int64_t head_dim) {
  return STRAKE_CPU_RUN(AttentionBackwardScratch(num_keys, head_dim));
}

template <typename T, typename Y>
void SegmentedAttentionForward(ThreadTeam& team, const AttentionInputs<T>& inputs,
                               const AttentionShape& shape,
                               absl::Span<const AttentionSegment> segments, int64_t max_keys,
                               float* scratch, const AttentionOutputs<Y>& outputs) {
  const int64_t size = CausalAttentionForwardScratch(max_keys, shape.head_dim);
  const SegmentUnits units(segments, [&](const AttentionSegment& s) {
    return shape.num_heads * NumBlocks(s, /*want_dq=*/true);
  });
  team.ParallelForRanges(units.count(), 1, [&](int thread, int64_t begin, int64_t end) {
    units.ForEach(begin, end, [&](int64_t segment, int64_t first, int64_t last) {
      const AttentionSegment& s = segments[segment];
      AttentionOutputs<Y> to = outputs;
      to.y += OutputAt(shape, s.query);
      to.lse += LseAt(shape, s.query);
      STRAKE_CPU_RUN(AttentionForward(InputsFrom(inputs, s), ShapeOf(shape, s), KeysOf(s), first,
                                      last, scratch + thread * size, to));
    });
  });
}

template <typename T, typename Gradient>
void SegmentedAttentionBackward(ThreadTeam& team, const AttentionGradients<T, Gradient>& gradients,
                                absl::Span<const AttentionSegment> segments, int64_t max_keys,
                                float* scratch) {
  const AttentionShape& shape = gradients.shape;
  const int64_t size = CausalAttentionBackwardScratch(max_keys, shape.head_dim);
  const int64_t heads = shape.num_kv_heads;
  const auto run = [&](int thread, const AttentionSegment& s, const AttentionBackwardUnit& unit) {
    const AttentionShape one = ShapeOf(shape, s);
    STRAKE_CPU_RUN(
        AttentionBackward(GradientsFrom(gradients, s, one), unit, scratch + thread * size));
  };
  if (EnoughHeads(shape, segments, team.num_threads())) {
    team.ParallelForTasks(segments.size() * heads, [&](int thread, int64_t task) {
      const AttentionSegment& s = segments[task / heads];
      run(thread, s, WholeHead(shape, s, task % heads));
    });
    return;
  }
  // Too few heads for the threads: processes blocks of keys, then blocks of queries, at the cost of
  // computing the probabilities twice.
  for (const bool want_dq : {false, true}) {
    const SegmentUnits units(
        segments, [&](const AttentionSegment& s) { return heads * NumBlocks(s, want_dq); });
    team.ParallelForRanges(units.count(), 1, [&](int thread, int64_t begin, int64_t end) {
      units.ForEach(begin, end, [&](int64_t segment, int64_t first, int64_t last) {
        const AttentionSegment& s = segments[segment];
        for (int64_t unit = first; unit < last; ++unit) {
          run(thread, s, OneBlock(shape, s, unit, want_dq));
        }
      });
    });
  }
}

template <typename T>
void CausalAttentionForward(ThreadTeam& team, const AttentionInputs<T>& inputs,
                            const AttentionShape& shape, int64_t past, float* scratch, T* y,
                            float* lse, absl::Span<const int64_t> lengths) {
  const AttentionOutputs<T> outputs = {y, lse, shape.seq_len};
  if (!lengths.empty()) {
    return SegmentedAttentionForward(team, inputs, shape, DocumentSegments(lengths), shape.seq_len,
                                     scratch, outputs);
  }
  const AttentionKeys keys = {past, past + shape.seq_len};
  const int64_t size = CausalAttentionForwardScratch(keys.count, shape.head_dim);
  const auto run = [&](int thread, int64_t begin, int64_t end) {
    STRAKE_CPU_RUN(
        AttentionForward(inputs, shape, keys, begin, end, scratch + thread * size, outputs));
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
void CausalAttentionBackward(ThreadTeam& team, const AttentionGradients<T, T>& gradients,
                             float* scratch, absl::Span<const int64_t> lengths) {
  const AttentionShape& shape = gradients.shape;
  // Without documents each sequence is one, unless it is empty.
  const int64_t sequences = shape.seq_len == 0 ? 0 : shape.batch;
  const std::vector<int64_t> whole(lengths.empty() ? sequences : 0, shape.seq_len);
  SegmentedAttentionBackward(team, gradients, DocumentSegments(lengths.empty() ? whole : lengths),
                             shape.seq_len, scratch);
}

#define STRAKE_INSTANTIATE_SEGMENTS(T, Sum)                                                \
  template void SegmentedAttentionForward(                                                 \
      ThreadTeam&, const AttentionInputs<T>&, const AttentionShape&,                       \
      absl::Span<const AttentionSegment>, int64_t, float*, const AttentionOutputs<Sum>&);  \
  template void SegmentedAttentionBackward(ThreadTeam&, const AttentionGradients<T, Sum>&, \
                                           absl::Span<const AttentionSegment>, int64_t, float*);
STRAKE_INSTANTIATE_SEGMENTS(float, float)
STRAKE_INSTANTIATE_SEGMENTS(Bf16, float)

#define STRAKE_INSTANTIATE(T)                                                                 \
  template void CausalAttentionForward(ThreadTeam&, const AttentionInputs<T>&,                \
                                       const AttentionShape&, int64_t, float*, T*, float*,    \
                                       absl::Span<const int64_t>);                            \
  template void CausalAttentionBackward(ThreadTeam&, const AttentionGradients<T, T>&, float*, \
                                        absl::Span<const int64_t>);
STRAKE_INSTANTIATE(float)
STRAKE_INSTANTIATE(Bf16)

}  // namespace strake::cpu
