#include "core/ops/cpu/causal_attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/ops/cpu/attention_tile.h"

namespace strake::cpu {
namespace {

// A block of keys or values of 64 features is 16 KiB: it and a block of queries fit the first
// level of cache.
constexpr int64_t kBlock = 64;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

int64_t PaddedDim(int64_t head_dim) { return RoundUp(head_dim, kLanes); }
int64_t NumBlocks(int64_t n) { return (n + kBlock - 1) / kBlock; }

// The n-th of `count` blocks in the order first, last, second, last but one, ...: consecutive
// pairs cost the same under a causal mask, so equal ranges of n do too.
int64_t BalancedBlock(int64_t n, int64_t count) { return n % 2 == 0 ? n / 2 : count - 1 - n / 2; }

// How many keys of the block at `first_key` the panel of queries that ends before position
// `end_query` sees, in whole vectors; at most kBlock, and not above 0 when it sees none.
int64_t VisibleKeys(int64_t end_query, int64_t first_key) {
  return std::min(kBlock, RoundUp(end_query - first_key, kLanes));
}

// The running softmax of the queries of a block: their largest score so far, and the sum of
// exp(score - largest).
struct RowState {
  float largest = -kInfinity;
  float sum = 0;
};

// row = exp(row - largest), 0 for keys that the query at `position` must not see; rescales `state`
// and y [dim], the sum of weighted values so far. Without kMasked the query sees the whole row.
template <bool kMasked>
void OnlineSoftmax(int64_t position, int64_t first_key, int64_t columns, int64_t dim, float* row,
                   RowState& state, float* y) {
  const int64_t visible = position + 1 - first_key;
  Vec largest = Broadcast(state.largest);
  for (int64_t j = 0; j < columns; j += kLanes) {
    largest = FirstLanes<kMasked>(visible - j, Max(largest, Load(row + j)), largest);
  }
  const float new_largest = Lanes(largest).maxCoeff();
  Vec sum{};
  for (int64_t j = 0; j < columns; j += kLanes) {
    const Vec p = FirstLanes<kMasked>(visible - j, Exp(Load(row + j) - new_largest), Vec{});
    Store(p, row + j);
    sum += p;
  }
  if (first_key > 0 && new_largest != state.largest) {
    const float shrink = std::exp(state.largest - new_largest);
    state.sum *= shrink;
    for (int64_t d = 0; d < dim; d += kLanes) Store(Load(y + d) * shrink, y + d);
  }
  state.largest = new_largest;
  state.sum += Lanes(sum).sum();
}

// The scratch of one thread in the forward pass.
struct ForwardTiles {
  ForwardTiles(float* scratch, int64_t num_keys, int64_t head_dim)
      : dim(PaddedDim(head_dim)),
        k_transposed(scratch),
        v(k_transposed + RoundUp(num_keys, kBlock) * dim),
        q(v + RoundUp(num_keys, kBlock) * dim),
        y(q + kBlock * dim),
        scores(y + kBlock * dim) {}

  static int64_t Size(int64_t num_keys, int64_t head_dim) {
    const int64_t rows = RoundUp(num_keys, kBlock);
    return (2 * rows + 2 * kBlock) * PaddedDim(head_dim) + kPanelRows * kBlock;
  }

  // Of the keys and values of one head, [num_keys, head_dim].
  void PackKeys(const float* keys, const float* values, int64_t stride, int64_t num_keys,
                int64_t head_dim) {
    for (int64_t begin = 0; begin < num_keys; begin += kBlock) {
      const int64_t rows = std::min(kBlock, num_keys - begin);
      PackRows(keys + begin * stride, stride, rows, head_dim, 1, kBlock, dim, q);
      Transpose(q, dim, kBlock, dim, k_transposed + begin * dim, kBlock);
      PackRows(values + begin * stride, stride, rows, head_dim, 1, kBlock, dim, v + begin * dim);
    }
  }

  int64_t dim;          // head_dim, padded
  float* k_transposed;  // blocks of [dim, kBlock]
  float* v;             // blocks of [kBlock, dim]
  float* q;             // [kBlock, dim], divided by sqrt(head_dim)
  float* y;             // [kBlock, dim]
  float* scores;        // [kPanelRows, kBlock]
};

// y += softmax(q k^T) v for the first `rows` queries of the tile, which stand at `position` on.
void AttendBlock(const ForwardTiles& t, int64_t position, int64_t rows,
                 std::array<RowState, kBlock>& states) {
  const int64_t padded_rows = RoundUp(rows, kPanelRows);
  std::fill(t.y, t.y + padded_rows * t.dim, 0.0f);
  for (int64_t key = 0; key < position + rows; key += kBlock) {
    for (int64_t r = 0; r < padded_rows; r += kPanelRows) {
      const int64_t columns = VisibleKeys(position + r + kPanelRows, key);
      if (columns <= 0) continue;
      PanelProduct<false>(t.q + r * t.dim, t.dim, t.k_transposed + key * t.dim, kBlock, columns,
                          t.dim, false, t.scores, kBlock);
      const auto softmax =
          position + r < key + columns - 1 ? OnlineSoftmax<true> : OnlineSoftmax<false>;
      for (int64_t i = 0; i < kPanelRows; ++i) {
        softmax(position + r + i, key, columns, t.dim, t.scores + i * kBlock, states[r + i],
                t.y + (r + i) * t.dim);
      }
      PanelProduct<false>(t.scores, kBlock, t.v + key * t.dim, t.dim, t.dim, columns, true,
                          t.y + r * t.dim, t.dim);
    }
  }
}

float ScoreScale(int64_t head_dim) {
  return static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim)));
}

// The scratch of one thread in the backward pass.
struct BackwardTiles {
  BackwardTiles(float* scratch, int64_t num_keys, int64_t head_dim)
      : dim(PaddedDim(head_dim)), k(scratch) {
    const int64_t whole = RoundUp(num_keys, kBlock) * dim, block = kBlock * dim;
    k_transposed = k + whole;
    v_transposed = k_transposed + whole;
    dk = v_transposed + whole;
    dv = dk + whole;
    q = dv + whole;
    dy = q + block;
    dq = dy + block;
    p = dq + block;
    ds = p + kBlock * kBlock;
    lse = ds + kBlock * kBlock;
    dy_y = lse + kBlock;
  }

  static int64_t Size(int64_t num_keys, int64_t head_dim) {
    const int64_t rows = RoundUp(num_keys, kBlock);
    return (5 * rows + 3 * kBlock) * PaddedDim(head_dim) + 2 * kBlock * kBlock + 2 * kBlock;
  }

  int64_t dim;                         // head_dim, padded
  float* k;                            // blocks of [kBlock, dim]
  float *k_transposed, *v_transposed;  // blocks of [dim, kBlock]
  float *dk, *dv;                      // as k
  float *q, *dy, *dq;                  // [kBlock, dim]; q divided by sqrt(head_dim)
  float *p, *ds;                       // [kBlock, kBlock]
  float *lse, *dy_y;                   // [kBlock]
};

// p = exp(p - lse) where the query sees the key and 0 elsewhere; ds = p (ds - dy_y).
template <bool kMasked>
void SoftmaxBackward(int64_t position, int64_t first_key, int64_t columns, float lse, float dy_y,
                     float* p, float* ds) {
  const int64_t visible = position + 1 - first_key;
  for (int64_t j = 0; j < columns; j += kLanes) {
    const Vec p_j = FirstLanes<kMasked>(visible - j, Exp(Load(p + j) - lse), Vec{});
    Store(p_j, p + j);
    Store(p_j * (Load(ds + j) - dy_y), ds + j);
  }
}

// One block of queries from `position` on against one of keys; see the reference for the formulas.
void BackwardTile(const BackwardTiles& t, int64_t position, int64_t rows, int64_t key, bool want_dq,
                  bool want_dkv) {
  const int64_t padded_rows = RoundUp(rows, kPanelRows);
  for (int64_t r = 0; r < padded_rows; r += kPanelRows) {
    const int64_t columns = VisibleKeys(position + r + kPanelRows, key);
    float* p = t.p + r * kBlock;
    float* ds = t.ds + r * kBlock;
    PanelProduct<false>(t.q + r * t.dim, t.dim, t.k_transposed + key * t.dim, kBlock, columns,
                        t.dim, false, p, kBlock);
    PanelProduct<false>(t.dy + r * t.dim, t.dim, t.v_transposed + key * t.dim, kBlock, columns,
                        t.dim, false, ds, kBlock);
    const auto softmax =
        position + r < key + columns - 1 ? SoftmaxBackward<true> : SoftmaxBackward<false>;
    for (int64_t i = 0; i < kPanelRows; ++i) {
      softmax(position + r + i, key, columns, t.lse[r + i], t.dy_y[r + i], p + i * kBlock,
              ds + i * kBlock);
    }
    if (want_dq) {
      PanelProduct<false>(ds, kBlock, t.k + key * t.dim, t.dim, t.dim, columns, true,
                          t.dq + r * t.dim, t.dim);
    }
  }
  if (!want_dkv) return;
  const int64_t end = std::min(kBlock, position + padded_rows - key);
  for (int64_t j = 0; j < end; j += kPanelRows) {
    // Queries before this panel of keys do not see it.
    const int64_t first = std::max<int64_t>(0, key + j - position);
    const int64_t at = first * kBlock + j, to = (key + j) * t.dim;
    PanelProduct<true>(t.p + at, kBlock, t.dy + first * t.dim, t.dim, t.dim, padded_rows - first,
                       true, t.dv + to, t.dim);
    PanelProduct<true>(t.ds + at, kBlock, t.q + first * t.dim, t.dim, t.dim, padded_rows - first,
                       true, t.dk + to, t.dim);
  }
}

// The backward pass's tensors, and where heads are in them.
struct Backward {
  const AttentionShape& shape;
  const AttentionInputs& in;
  const float* dy;
  const float* y;
  const float* lse;
  float *dq, *dk, *dv;

  int64_t QueryAt(int64_t batch, int64_t head) const {
    return batch * shape.seq_len * in.q_stride + head * shape.head_dim;
  }
  int64_t OutputStride() const { return shape.num_heads * shape.head_dim; }

  // Block `block` of the queries of one head, with what belongs to them.
  void PackQueries(int64_t batch, int64_t head, int64_t block, const BackwardTiles& t) const {
    const int64_t begin = block * kBlock, rows = std::min(kBlock, shape.seq_len - begin);
    const int64_t dim = shape.head_dim, stride = OutputStride();
    const float* from = in.q + QueryAt(batch, head) + begin * in.q_stride;
    PackRows(from, in.q_stride, rows, dim, ScoreScale(dim), kBlock, t.dim, t.q);
    const int64_t at = (batch * shape.seq_len + begin) * stride + head * dim;
    PackRows(dy + at, stride, rows, dim, 1, kBlock, t.dim, t.dy);
    const float* lse_row = lse + (batch * shape.num_heads + head) * shape.seq_len + begin;
    using Row = Eigen::Map<const Eigen::ArrayXf>;
    for (int64_t r = 0; r < rows; ++r) {
      t.lse[r] = lse_row[r];
      t.dy_y[r] = (Row(y + at + r * stride, dim) * Row(t.dy + r * t.dim, dim)).sum();
    }
    std::fill(t.lse + rows, t.lse + kBlock, 0.0f);
    std::fill(t.dy_y + rows, t.dy_y + kBlock, 0.0f);
  }

  void PackKeys(int64_t batch, int64_t kv_head, int64_t begin, int64_t end,
                const BackwardTiles& t) const {
    const int64_t at = QueryAt(batch, kv_head);
    for (int64_t key = begin; key < end; key += kBlock) {
      const int64_t rows = std::min(kBlock, shape.seq_len - key), to = key * t.dim;
      const int64_t from = at + key * in.kv_stride;
      PackRows(in.v + from, in.kv_stride, rows, shape.head_dim, 1, kBlock, t.dim, t.q);
      Transpose(t.q, t.dim, kBlock, t.dim, t.v_transposed + to, kBlock);
      PackRows(in.k + from, in.kv_stride, rows, shape.head_dim, 1, kBlock, t.dim, t.k + to);
      Transpose(t.k + to, t.dim, kBlock, t.dim, t.k_transposed + to, kBlock);
    }
  }

  // Of one key/value head, with all query heads that read it: dq of query blocks [q_begin, q_end),
  // and dk and dv of key blocks [k_begin, k_end). The terms of a sum come in the same order,
  // however the blocks are cut.
  void Run(int64_t batch, int64_t kv_head, int64_t q_begin, int64_t q_end, int64_t k_begin,
           int64_t k_end, bool want_dq, bool want_dkv, const BackwardTiles& t) const {
    PackKeys(batch, kv_head, k_begin * kBlock, k_end * kBlock, t);
    if (want_dkv) {
      std::fill(t.dk + k_begin * kBlock * t.dim, t.dk + k_end * kBlock * t.dim, 0.0f);
      std::fill(t.dv + k_begin * kBlock * t.dim, t.dv + k_end * kBlock * t.dim, 0.0f);
    }
    const int64_t group = shape.num_heads / shape.num_kv_heads;
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (int64_t block = std::max(q_begin, k_begin); block < q_end; ++block) {
        const int64_t begin = block * kBlock, rows = std::min(kBlock, shape.seq_len - begin);
        PackQueries(batch, head, block, t);
        if (want_dq) std::fill(t.dq, t.dq + kBlock * t.dim, 0.0f);
        for (int64_t key = k_begin; key < std::min(k_end, block + 1); ++key) {
          BackwardTile(t, begin, rows, key * kBlock, want_dq, want_dkv);
        }
        if (want_dq) {
          UnpackRows(t.dq, t.dim, rows, shape.head_dim, ScoreScale(shape.head_dim),
                     dq + QueryAt(batch, head) + begin * in.q_stride, in.q_stride);
        }
      }
    }
    if (!want_dkv) return;
    const int64_t begin = k_begin * kBlock;
    const int64_t rows = std::min(k_end * kBlock, shape.seq_len) - begin;
    const int64_t at = QueryAt(batch, kv_head) + begin * in.kv_stride;
    UnpackRows(t.dk + begin * t.dim, t.dim, rows, shape.head_dim, 1, dk + at, in.kv_stride);
    UnpackRows(t.dv + begin * t.dim, t.dim, rows, shape.head_dim, 1, dv + at, in.kv_stride);
  }
};

}  // namespace

int64_t CausalAttentionForwardScratch(int64_t num_keys, int64_t head_dim) {
  return ForwardTiles::Size(num_keys, head_dim);
}

int64_t CausalAttentionBackwardScratch(int64_t num_keys, int64_t head_dim) {
  return BackwardTiles::Size(num_keys, head_dim);
}

void CausalAttentionForward(ThreadTeam& team, const AttentionInputs& inputs,
                            const AttentionShape& shape, int64_t past, float* scratch, float* y,
                            float* lse) {
  const int64_t num_keys = past + shape.seq_len, dim = shape.head_dim;
  const int64_t group = shape.num_heads / shape.num_kv_heads, blocks = NumBlocks(shape.seq_len);
  const int64_t y_stride = shape.num_heads * dim;
  const int64_t scratch_size = CausalAttentionForwardScratch(num_keys, dim);
  team.ParallelForRanges(
      shape.batch * shape.num_heads * blocks, 1, [&](int thread, int64_t begin, int64_t end) {
        ForwardTiles t(scratch + thread * scratch_size, num_keys, dim);
        int64_t packed = -1;
        for (int64_t unit = begin; unit < end; ++unit) {
          const int64_t head = unit / blocks % shape.num_heads,
                        batch = unit / blocks / shape.num_heads;
          const int64_t kv = batch * shape.num_kv_heads + head / group;
          if (kv != packed) {
            const int64_t at = batch * num_keys * inputs.kv_stride + head / group * dim;
            t.PackKeys(inputs.k + at, inputs.v + at, inputs.kv_stride, num_keys, dim);
            packed = kv;
          }
          const int64_t first = BalancedBlock(unit % blocks, blocks) * kBlock;
          const int64_t rows = std::min(kBlock, shape.seq_len - first);
          const int64_t token = batch * shape.seq_len + first;
          PackRows(inputs.q + token * inputs.q_stride + head * dim, inputs.q_stride, rows, dim,
                   ScoreScale(dim), RoundUp(rows, kPanelRows), t.dim, t.q);
          std::array<RowState, kBlock> states;
          AttendBlock(t, past + first, rows, states);
          for (int64_t r = 0; r < rows; ++r) {
            UnpackRows(t.y + r * t.dim, t.dim, 1, dim, 1 / states[r].sum,
                       y + (token + r) * y_stride + head * dim, y_stride);
            if (lse != nullptr) {
              lse[(batch * shape.num_heads + head) * shape.seq_len + first + r] =
                  states[r].largest + std::log(states[r].sum);
            }
          }
        }
      });
}

void CausalAttentionBackward(ThreadTeam& team, const float* dy, const AttentionInputs& inputs,
                             const float* y, const float* lse, const AttentionShape& shape,
                             float* scratch, float* dq, float* dk, float* dv) {
  const Backward backward{shape, inputs, dy, y, lse, dq, dk, dv};
  const int64_t blocks = NumBlocks(shape.seq_len), heads = shape.batch * shape.num_kv_heads;
  const int64_t scratch_size = CausalAttentionBackwardScratch(shape.seq_len, shape.head_dim);
  const auto tiles = [&](int thread) {
    return BackwardTiles(scratch + thread * scratch_size, shape.seq_len, shape.head_dim);
  };
  if (heads >= team.num_threads() || blocks == 1) {
    team.ParallelForRanges(heads, 1, [&](int thread, int64_t begin, int64_t end) {
      for (int64_t unit = begin; unit < end; ++unit) {
        backward.Run(unit / shape.num_kv_heads, unit % shape.num_kv_heads, 0, blocks, 0, blocks,
                     true, true, tiles(thread));
      }
    });
    return;
  }
  // Too few heads for the threads: blocks of keys, then blocks of queries, at the price of making
  // the probabilities twice.
  for (const bool want_dq : {false, true}) {
    team.ParallelForRanges(heads * blocks, 1, [&](int thread, int64_t begin, int64_t end) {
      for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t head = unit / blocks, block = BalancedBlock(unit % blocks, blocks);
        backward.Run(head / shape.num_kv_heads, head % shape.num_kv_heads, want_dq ? block : 0,
                     want_dq ? block + 1 : blocks, want_dq ? 0 : block, block + 1, want_dq,
                     !want_dq, tiles(thread));
      }
    });
  }
}

}  // namespace strake::cpu
