#include "core/ops/attention/attention_kernel_cpu.h"

#include "core/ops/attention/attention_scores_cpu.h"
#include "core/ops/attention/attention_tile_cpu.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

constexpr int64_t kBlock = kAttentionBlock;

int64_t PaddedDim(int64_t head_dim) { return RoundUp(head_dim, kLanes); }

// As many queries as a vector has lanes, so that each lane of a vector stands for one query.
constexpr int64_t kGroupRows = kLanes;
static_assert(kGroupRows % kPanelRows == 0 && kBlock % kGroupRows == 0);

// The running softmax of a group of queries: their largest scores so far, and the sums of
// exp(score - largest).
struct GroupState {
  Vec largest = Broadcast(-__builtin_inff());
  Vec sum{};
};

// scores [kGroupRows, kBlock] = exp(scores - largest), 0 for keys that a query must not see. The
// queries are those from `position` on, and `key` is the first column. Updates `state`, and returns
// the factor by which its sums, and the sums of weighted values so far, shrink.
template <Hidden kHidden>
Vec OnlineSoftmax(const AttentionShape& shape, int64_t num_keys, int64_t position, int64_t key,
                  int64_t columns, float* scores, GroupState& state) {
  Vec part[kGroupRows];
  for (int r = 0; r < kGroupRows; ++r) {
    const SeenOfRow seen = SeenBy(shape, num_keys, position + r, key);
    part[r] = Broadcast(-__builtin_inff());
    for (int64_t j = 0; j < columns; j += kLanes) {
      const Vec score = Load(scores + r * kBlock + j);
      part[r] = WhereSeen<kHidden>(seen, j, Max(part[r], score), part[r]);
    }
  }
  TransposeSquare(part);
  Vec largest = state.largest;
  STRAKE_UNROLL for (int i = 0; i < kLanes; ++i) largest = Max(largest, part[i]);
  for (int r = 0; r < kGroupRows; ++r) {
    const SeenOfRow seen = SeenBy(shape, num_keys, position + r, key);
    Vec sum{};
    for (int64_t j = 0; j < columns; j += kLanes) {
      float* const at = scores + r * kBlock + j;
      const Vec p = WhereSeen<kHidden>(seen, j, Exp(Load(at) - largest[r]), Vec{});
      Store(p, at);
      sum += p;
    }
    part[r] = sum;
  }
  TransposeSquare(part);
  const Vec shrink = Exp(state.largest - largest);
  state.largest = largest;
  state.sum *= shrink;
  STRAKE_UNROLL for (int i = 0; i < kLanes; ++i) state.sum += part[i];
  return shrink;
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
    return (2 * rows + 2 * kBlock) * PaddedDim(head_dim) + kGroupRows * kBlock;
  }

  // Packs the keys and values [num_keys, head_dim] of one head, from the block of `first` on.
  template <typename T>
  void PackKeys(const T* keys, const T* values, int64_t stride, int64_t first, int64_t num_keys,
                int64_t head_dim) {
    for (int64_t begin = first / kBlock * kBlock; begin < num_keys; begin += kBlock) {
      const int64_t rows = Min(kBlock, num_keys - begin);
      PackRows(keys + begin * stride, stride, rows, head_dim, 1, kBlock, dim, q);
      Transpose(q, dim, kBlock, dim, k_transposed + begin * dim, kBlock);
      PackRows(values + begin * stride, stride, rows, head_dim, 1, kBlock, dim, v + begin * dim);
    }
  }

  int64_t dim;          // head_dim, padded
  float* k_transposed;  // blocks of [dim, kBlock]
  float* v;             // blocks of [kBlock, dim]
  float* q;             // [kBlock, dim], times the scale
  float* y;             // [kBlock, dim]
  float* scores;        // [kGroupRows, kBlock]
};

void CapScores(const Softcap& cap, int64_t columns, float* scores) {
  for (int64_t r = 0; r < kGroupRows; ++r, scores += kBlock) {
    for (int64_t j = 0; j < columns; j += kLanes) Store(cap(Load(scores + j)), scores + j);
  }
}

// Sets the states of `rows` queries to those after the keys of which `lse` is. A query that has
// seen none begins at a finite score, because exp(-inf - -inf) would be NaN.
void ResumeFrom(const float* lse, int64_t rows, GroupState* states) {
  for (int64_t r = 0; r < rows; ++r) {
    const bool none = lse[r] == -__builtin_inff();
    states[r / kGroupRows].largest[r % kGroupRows] = none ? -__FLT_MAX__ : lse[r];
    states[r / kGroupRows].sum[r % kGroupRows] = none ? 0 : 1;
  }
}

// y = softmax(scores of q and k) v, or += with `merge`, still without the division by the sums of
// `states`, for the first `rows` queries of the tile, which begin at `position`.
void AttendBlock(const ForwardTiles& t, const AttentionShape& shape, int64_t num_keys,
                 int64_t position, int64_t rows, bool merge, GroupState* states) {
  for (int64_t key = shape.FirstKey(position) / kBlock * kBlock;
       key < Min(position + rows, num_keys); key += kBlock) {
    for (int64_t r = 0; r < rows; r += kGroupRows) {
      const int64_t first = position + r;
      const auto [begin, columns] = SeenColumns(shape, num_keys, kBlock, first, kGroupRows, key);
      if (columns <= 0) continue;
      for (int64_t i = 0; i < kGroupRows; i += kPanelRows) {
        PanelProduct<false>({t.q + (r + i) * t.dim, t.dim},
                            {t.k_transposed + key * t.dim + begin, kBlock}, columns, t.dim, false,
                            {t.scores + i * kBlock, kBlock});
      }
      if (shape.score_softcap != 0) CapScores(Softcap(shape), columns, t.scores);
      const Hidden hidden = HiddenEnds(shape, num_keys, first, kGroupRows, key + begin, columns);
      const auto softmax = hidden == Hidden::kBoth   ? OnlineSoftmax<Hidden::kBoth>
                           : hidden == Hidden::kLast ? OnlineSoftmax<Hidden::kLast>
                                                     : OnlineSoftmax<Hidden::kNone>;
      const Vec shrink =
          softmax(shape, num_keys, first, key + begin, columns, t.scores, states[r / kGroupRows]);
      const bool accumulate = merge || key > shape.FirstKey(first);
      for (int64_t i = 0; i < kGroupRows && accumulate; ++i) {
        float* const y = t.y + (r + i) * t.dim;
        for (int64_t d = 0; d < t.dim; d += kLanes) Store(Load(y + d) * shrink[i], y + d);
      }
      for (int64_t i = 0; i < kGroupRows; i += kPanelRows) {
        PanelProduct<false>({t.scores + i * kBlock, kBlock}, {t.v + (key + begin) * t.dim, t.dim},
                            t.dim, columns, accumulate, {t.y + (r + i) * t.dim, t.dim});
      }
    }
  }
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
  float *q, *dy, *dq;                  // [kBlock, dim]; q times the scale
  float *p, *ds;                       // [kBlock, kBlock]
  float *lse, *dy_y;                   // [kBlock]
};

// For the panel of queries at row r, p and ds [kPanelRows, columns]: p = exp(s - lse) if the query
// sees the key, else 0, of the scores s that p holds, or that the cap makes of it; ds = p (ds -
// dy_y), times the cap's slope. `position` and `key` are as in OnlineSoftmax().
template <Hidden kHidden, bool kCapped>
void SoftmaxBackward(const BackwardTiles& t, const AttentionShape& shape, int64_t num_keys,
                     int64_t r, int64_t position, int64_t key, int64_t columns, float* p,
                     float* ds) {
  const Softcap cap(shape);
  for (int64_t i = 0; i < kPanelRows; ++i, p += kBlock, ds += kBlock) {
    const float lse = t.lse[r + i], dy_y = t.dy_y[r + i];
    const SeenOfRow seen = SeenBy(shape, num_keys, position + i, key);
    for (int64_t j = 0; j < columns; j += kLanes) {
      Vec s = Load(p + j);
      if constexpr (kCapped) s = cap(s);
      const Vec p_j = WhereSeen<kHidden>(seen, j, Exp(s - lse), Vec{});
      Store(p_j, p + j);
      Vec ds_j = p_j * (Load(ds + j) - dy_y);
      if constexpr (kCapped) ds_j *= cap.Slope(s);
      Store(ds_j, ds + j);
    }
  }
}

template <bool kCapped>
auto SoftmaxBackwardFor(Hidden hidden) {
  return hidden == Hidden::kBoth   ? SoftmaxBackward<Hidden::kBoth, kCapped>
         : hidden == Hidden::kLast ? SoftmaxBackward<Hidden::kLast, kCapped>
                                   : SoftmaxBackward<Hidden::kNone, kCapped>;
}

// p and ds of a panel of queries from `position` on, which are row r of their block, and the keys
// of the block at `key` that they see; dq +=.
void BackwardPanel(const BackwardTiles& t, const AttentionShape& shape, int64_t num_keys,
                   int64_t position, int64_t r, int64_t key, bool want_dq) {
  const auto [begin, columns] = SeenColumns(shape, num_keys, kBlock, position, kPanelRows, key);
  if (columns <= 0) return;
  float* const p = t.p + r * kBlock + begin;
  float* const ds = t.ds + r * kBlock + begin;
  PanelProduct<false>({t.q + r * t.dim, t.dim}, {t.k_transposed + key * t.dim + begin, kBlock},
                      columns, t.dim, false, {p, kBlock});
  PanelProduct<false>({t.dy + r * t.dim, t.dim}, {t.v_transposed + key * t.dim + begin, kBlock},
                      columns, t.dim, false, {ds, kBlock});
  const Hidden hidden = HiddenEnds(shape, num_keys, position, kPanelRows, key + begin, columns);
  const auto softmax = shape.score_softcap == 0 ? SoftmaxBackwardFor<false>(hidden)
                                                : SoftmaxBackwardFor<true>(hidden);
  softmax(t, shape, num_keys, r, position, key + begin, columns, p, ds);
  if (want_dq) {
    PanelProduct<false>({ds, kBlock}, {t.k + (key + begin) * t.dim, t.dim}, t.dim, columns, true,
                        {t.dq + r * t.dim, t.dim});
  }
}

// Processes one block of queries from `position` on against one block of keys; see the reference
// for the formulas.
void BackwardTile(const BackwardTiles& t, const AttentionShape& shape, const AttentionKeys& keys,
                  int64_t position, int64_t rows, int64_t key, bool want_dq, bool want_dkv) {
  const int64_t padded_rows = RoundUp(rows, kPanelRows);
  for (int64_t r = 0; r < padded_rows; r += kPanelRows) {
    BackwardPanel(t, shape, keys.count, position + r, r, key, want_dq);
  }
  if (!want_dkv) return;
  const int64_t positions = keys.past + shape.seq_len;
  const int64_t window = shape.window == 0 ? positions : Min(shape.window, positions);
  const int64_t end = Min(kBlock, Min(position + padded_rows, keys.count) - key);
  for (int64_t j = 0; j < end; j += kPanelRows) {
    // Queries before this panel of keys do not see it, nor do those that its last key has left.
    const int64_t first = Max(0, key + j - position);
    const int64_t count = Min(padded_rows, key + j + kPanelRows - 1 + window - position) - first;
    const int64_t at = first * kBlock + j, to = (key + j) * t.dim;
    PanelProduct<true>({t.p + at, kBlock}, {t.dy + first * t.dim, t.dim}, t.dim, count, true,
                       {t.dv + to, t.dim});
    PanelProduct<true>({t.ds + at, kBlock}, {t.q + first * t.dim, t.dim}, t.dim, count, true,
                       {t.dk + to, t.dim});
  }
}

// Locates heads in the backward pass's tensors.
template <typename T, typename Gradient>
struct Backward {
  const AttentionGradients<T, Gradient>& g;
  const AttentionShape& shape = g.shape;
  const AttentionKeys& keys = g.keys;
  const AttentionInputs<T>& in = g.inputs;

  // The element of a query, or a key, of tokens `stride` apart.
  int64_t QueryAt(int64_t batch, int64_t head, int64_t query, int64_t stride) const {
    return (batch * shape.seq_len + query) * stride + head * shape.head_dim;
  }
  int64_t KeyAt(int64_t batch, int64_t kv_head, int64_t key, int64_t stride) const {
    return (batch * keys.count + key) * stride + kv_head * shape.head_dim;
  }
  int64_t OutputStride() const { return shape.num_heads * shape.head_dim; }

  // Packs block `block` of one head's queries, and the rows of dy, lse and dy_y that belong to
  // them.
  void PackQueries(int64_t batch, int64_t head, int64_t block, const BackwardTiles& t) const {
    const int64_t begin = block * kBlock, rows = Min(kBlock, shape.seq_len - begin);
    const int64_t dim = shape.head_dim, stride = OutputStride();
    const T* from = in.q + QueryAt(batch, head, begin, in.q_stride);
    PackRows(from, in.q_stride, rows, dim, shape.Scale(), kBlock, t.dim, t.q);
    const int64_t at = QueryAt(batch, head, begin, stride);
    PackRows(g.dy + at, stride, rows, dim, 1, kBlock, t.dim, t.dy);
    const float* lse_row = g.lse + (batch * shape.num_heads + head) * g.lse_stride + begin;
    for (int64_t r = 0; r < rows; ++r) {
      t.lse[r] = lse_row[r];
      Vec sum{};
      ForEachVector(dim, [&](int64_t d, auto part) {
        sum += Load(g.y + at + r * stride + d, part) * Load(t.dy + r * t.dim + d);
      });
      t.dy_y[r] = Sum(sum);
    }
    Fill(t.lse + rows, kBlock - rows, 0);
    Fill(t.dy_y + rows, kBlock - rows, 0);
  }

  void PackKeys(int64_t batch, int64_t kv_head, int64_t begin, int64_t end,
                const BackwardTiles& t) const {
    for (int64_t key = begin; key < end; key += kBlock) {
      const int64_t rows = Min(kBlock, keys.count - key), to = key * t.dim;
      const int64_t from = KeyAt(batch, kv_head, key, in.kv_stride);
      PackRows(in.v + from, in.kv_stride, rows, shape.head_dim, 1, kBlock, t.dim, t.q);
      Transpose(t.q, t.dim, kBlock, t.dim, t.v_transposed + to, kBlock);
      PackRows(in.k + from, in.kv_stride, rows, shape.head_dim, 1, kBlock, t.dim, t.k + to);
      Transpose(t.k + to, t.dim, kBlock, t.dim, t.k_transposed + to, kBlock);
    }
  }

  // Processes one key/value head with all query heads that read it: dq of query blocks
  // [q_begin, q_end), and dk and dv of key blocks [k_begin, k_end). The terms of a sum come in the
  // same order, however the blocks are cut.
  void Run(const AttentionBackwardUnit& unit, const BackwardTiles& t) const {
    const auto& [batch, kv_head, q_begin, q_end, k_begin, k_end, want_dq, want_dkv] = unit;
    PackKeys(batch, kv_head, k_begin * kBlock, k_end * kBlock, t);
    if (want_dkv) {
      Fill(t.dk + k_begin * kBlock * t.dim, (k_end - k_begin) * kBlock * t.dim, 0);
      Fill(t.dv + k_begin * kBlock * t.dim, (k_end - k_begin) * kBlock * t.dim, 0);
    }
    const int64_t group = shape.num_heads / shape.num_kv_heads;
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const int64_t first = Max(0, k_begin * kBlock - keys.past) / kBlock;
      for (int64_t block = Max(q_begin, first); block < q_end; ++block) {
        const int64_t begin = block * kBlock, rows = Min(kBlock, shape.seq_len - begin);
        const int64_t position = keys.past + begin;
        PackQueries(batch, head, block, t);
        if (want_dq) Fill(t.dq, kBlock * t.dim, 0);
        for (int64_t key = Max(k_begin, shape.FirstKey(position) / kBlock);
             key < Min(k_end, NumAttentionBlocks(position + rows)); ++key) {
          BackwardTile(t, shape, keys, position, rows, key * kBlock, want_dq, want_dkv);
        }
        if (want_dq) {
          UnpackRows(t.dq, t.dim, rows, shape.head_dim, shape.Scale(),
                     g.dq + QueryAt(batch, head, begin, g.dq_stride), g.dq_stride, g.accumulate);
        }
      }
    }
    if (!want_dkv) return;
    const int64_t begin = k_begin * kBlock;
    const int64_t rows = Min(k_end * kBlock, keys.count) - begin;
    const int64_t at = KeyAt(batch, kv_head, begin, g.dkv_stride);
    UnpackRows(t.dk + begin * t.dim, t.dim, rows, shape.head_dim, 1, g.dk + at, g.dkv_stride,
               g.accumulate);
    UnpackRows(t.dv + begin * t.dim, t.dim, rows, shape.head_dim, 1, g.dv + at, g.dkv_stride,
               g.accumulate);
  }
};

}  // namespace

int64_t AttentionForwardScratch(int64_t num_keys, int64_t head_dim) {
  return ForwardTiles::Size(num_keys, head_dim);
}

int64_t AttentionBackwardScratch(int64_t num_keys, int64_t head_dim) {
  return BackwardTiles::Size(num_keys, head_dim);
}

template <typename T, typename Y>
void AttentionForward(const AttentionInputs<T>& inputs, const AttentionShape& shape,
                      const AttentionKeys& keys, int64_t begin, int64_t end, float* scratch,
                      const AttentionOutputs<Y>& outputs) {
  const int64_t dim = shape.head_dim, group = shape.num_heads / shape.num_kv_heads;
  const int64_t blocks = NumAttentionBlocks(shape.seq_len), y_stride = shape.num_heads * dim;
  ForwardTiles t(scratch, keys.count, dim);
  int64_t packed = -1;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t head = unit / blocks % shape.num_heads, batch = unit / blocks / shape.num_heads;
    const int64_t kv = batch * shape.num_kv_heads + head / group;
    if (kv != packed) {
      const int64_t at = batch * keys.count * inputs.kv_stride + head / group * dim;
      t.PackKeys(inputs.k + at, inputs.v + at, inputs.kv_stride, shape.FirstKey(keys.past),
                 keys.count, dim);
      packed = kv;
    }
    const int64_t first = BalancedAttentionBlock(unit % blocks, blocks) * kBlock;
    const int64_t rows = Min(kBlock, shape.seq_len - first);
    const int64_t token = batch * shape.seq_len + first;
    PackRows(inputs.q + token * inputs.q_stride + head * dim, inputs.q_stride, rows, dim,
             shape.Scale(), RoundUp(rows, kGroupRows), t.dim, t.q);
    Y* const y = outputs.y + token * y_stride + head * dim;
    float* const lse =
        outputs.lse == nullptr
            ? nullptr
            : outputs.lse + (batch * shape.num_heads + head) * outputs.lse_stride + first;
    GroupState states[kBlock / kGroupRows];
    if (shape.window != 0) {
      // A query may see none of the keys that its group sees first; exp(-inf - -inf) would be NaN.
      for (GroupState& state : states) state.largest = Broadcast(-__FLT_MAX__);
    }
    if (outputs.merge) {
      PackRows(y, y_stride, rows, dim, 1, RoundUp(rows, kGroupRows), t.dim, t.y);
      ResumeFrom(lse, rows, states);
    }
    AttendBlock(t, shape, keys.count, keys.past + first, rows, outputs.merge, states);
    for (int64_t r = 0; r < rows; ++r) {
      const GroupState& state = states[r / kGroupRows];
      const float sum = state.sum[r % kGroupRows];
      UnpackRows(t.y + r * t.dim, t.dim, 1, dim, 1 / sum, y + r * y_stride, y_stride);
      if (lse != nullptr) lse[r] = state.largest[r % kGroupRows] + __builtin_logf(sum);
    }
  }
}

template <typename T, typename Gradient>
void AttentionBackward(const AttentionGradients<T, Gradient>& gradients,
                       const AttentionBackwardUnit& unit, float* scratch) {
  const BackwardTiles tiles(scratch, gradients.keys.count, gradients.shape.head_dim);
  Backward<T, Gradient>{gradients}.Run(unit, tiles);
}

#define STRAKE_INSTANTIATE(T, Sum)                                                                 \
  template void AttentionForward(const AttentionInputs<T>&, const AttentionShape&,                 \
                                 const AttentionKeys&, int64_t, int64_t, float*,                   \
                                 const AttentionOutputs<Sum>&);                                    \
  template void AttentionBackward(const AttentionGradients<T, Sum>&, const AttentionBackwardUnit&, \
                                  float*);
STRAKE_INSTANTIATE(float, float)
STRAKE_INSTANTIATE(Bf16, Bf16)
STRAKE_INSTANTIATE(Bf16, float)

}  // namespace strake::cpu::STRAKE_CPU_ISA
