#include "core/ops/attention/attention_kernel_cpu.h"

#include "core/ops/attention/attention_tile_cpu.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

constexpr int64_t kBlock = kAttentionBlock;

int64_t PaddedDim(int64_t head_dim) { return RoundUp(head_dim, kLanes); }

// The number of keys of the block at `first_key` that a panel of queries sees, in whole vectors;
// the panel ends before position `end_query`. At most kBlock, and not above 0 if the panel sees
// none.
int64_t VisibleKeys(int64_t end_query, int64_t first_key) {
  return Min(kBlock, RoundUp(end_query - first_key, kLanes));
}

// As many queries as a vector has lanes, so that each lane of a vector stands for one query.
constexpr int64_t kGroupRows = kLanes;
static_assert(kGroupRows % kPanelRows == 0 && kBlock % kGroupRows == 0);

// The running softmax of a group of queries: their largest scores so far, and the sums of
// exp(score - largest).
struct GroupState {
  Vec largest = Broadcast(-__builtin_inff());
  Vec sum{};
};

// scores [kGroupRows, kBlock] = exp(scores - largest), 0 for keys that a query must not see; the
// first query is at `position`. Updates `state`, and returns the factor by which its sums, and the
// sums of weighted values so far, shrink. Without kMasked the queries see whole rows.
template <bool kMasked>
Vec OnlineSoftmax(int64_t position, int64_t first_key, int64_t columns, float* scores,
                  GroupState& state) {
  const int64_t visible = position + 1 - first_key;
  Vec part[kGroupRows];
  for (int r = 0; r < kGroupRows; ++r) {
    part[r] = Broadcast(-__builtin_inff());
    for (int64_t j = 0; j < columns; j += kLanes) {
      const Vec score = Load(scores + r * kBlock + j);
      part[r] = FirstLanes<kMasked>(visible + r - j, Max(part[r], score), part[r]);
    }
  }
  TransposeSquare(part);
  Vec largest = state.largest;
  STRAKE_UNROLL for (int i = 0; i < kLanes; ++i) largest = Max(largest, part[i]);
  for (int r = 0; r < kGroupRows; ++r) {
    Vec sum{};
    for (int64_t j = 0; j < columns; j += kLanes) {
      float* const at = scores + r * kBlock + j;
      const Vec p = FirstLanes<kMasked>(visible + r - j, Exp(Load(at) - largest[r]), Vec{});
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

  // Packs the keys and values of one head, [num_keys, head_dim].
  template <typename T>
  void PackKeys(const T* keys, const T* values, int64_t stride, int64_t num_keys,
                int64_t head_dim) {
    for (int64_t begin = 0; begin < num_keys; begin += kBlock) {
      const int64_t rows = Min(kBlock, num_keys - begin);
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
  float* scores;        // [kGroupRows, kBlock]
};

// y = softmax(q k^T) v, still without the division by the sums of `states`, for the first `rows`
// queries of the tile, which begin at `position`.
void AttendBlock(const ForwardTiles& t, int64_t position, int64_t rows, GroupState* states) {
  for (int64_t key = 0; key < position + rows; key += kBlock) {
    for (int64_t r = 0; r < rows; r += kGroupRows) {
      const int64_t columns = VisibleKeys(position + r + kGroupRows, key);
      if (columns <= 0) continue;
      for (int64_t i = 0; i < kGroupRows; i += kPanelRows) {
        PanelProduct<false>({t.q + (r + i) * t.dim, t.dim}, {t.k_transposed + key * t.dim, kBlock},
                            columns, t.dim, false, {t.scores + i * kBlock, kBlock});
      }
      const auto softmax =
          position + r < key + columns - 1 ? OnlineSoftmax<true> : OnlineSoftmax<false>;
      const Vec shrink = softmax(position + r, key, columns, t.scores, states[r / kGroupRows]);
      for (int64_t i = 0; i < kGroupRows && key > 0; ++i) {
        float* const y = t.y + (r + i) * t.dim;
        for (int64_t d = 0; d < t.dim; d += kLanes) Store(Load(y + d) * shrink[i], y + d);
      }
      for (int64_t i = 0; i < kGroupRows; i += kPanelRows) {
        PanelProduct<false>({t.scores + i * kBlock, kBlock}, {t.v + key * t.dim, t.dim}, t.dim,
                            columns, key > 0, {t.y + (r + i) * t.dim, t.dim});
      }
    }
  }
}

float ScoreScale(int64_t head_dim) {
  return static_cast<float>(1 / __builtin_sqrt(static_cast<double>(head_dim)));
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

// p = exp(p - lse) if the query sees the key, else 0; ds = p (ds - dy_y).
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

// Processes one block of queries from `position` on against one block of keys; see the reference
// for the formulas.
void BackwardTile(const BackwardTiles& t, int64_t position, int64_t rows, int64_t key, bool want_dq,
                  bool want_dkv) {
  const int64_t padded_rows = RoundUp(rows, kPanelRows);
  for (int64_t r = 0; r < padded_rows; r += kPanelRows) {
    const int64_t columns = VisibleKeys(position + r + kPanelRows, key);
    float* p = t.p + r * kBlock;
    float* ds = t.ds + r * kBlock;
    PanelProduct<false>({t.q + r * t.dim, t.dim}, {t.k_transposed + key * t.dim, kBlock}, columns,
                        t.dim, false, {p, kBlock});
    PanelProduct<false>({t.dy + r * t.dim, t.dim}, {t.v_transposed + key * t.dim, kBlock}, columns,
                        t.dim, false, {ds, kBlock});
    const auto softmax =
        position + r < key + columns - 1 ? SoftmaxBackward<true> : SoftmaxBackward<false>;
    for (int64_t i = 0; i < kPanelRows; ++i) {
      softmax(position + r + i, key, columns, t.lse[r + i], t.dy_y[r + i], p + i * kBlock,
              ds + i * kBlock);
    }
    if (want_dq) {
      PanelProduct<false>({ds, kBlock}, {t.k + key * t.dim, t.dim}, t.dim, columns, true,
                          {t.dq + r * t.dim, t.dim});
    }
  }
  if (!want_dkv) return;
  const int64_t end = Min(kBlock, position + padded_rows - key);
  for (int64_t j = 0; j < end; j += kPanelRows) {
    // Queries before this panel of keys do not see it.
    const int64_t first = Max(int64_t{0}, key + j - position);
    const int64_t at = first * kBlock + j, to = (key + j) * t.dim;
    PanelProduct<true>({t.p + at, kBlock}, {t.dy + first * t.dim, t.dim}, t.dim,
                       padded_rows - first, true, {t.dv + to, t.dim});
    PanelProduct<true>({t.ds + at, kBlock}, {t.q + first * t.dim, t.dim}, t.dim,
                       padded_rows - first, true, {t.dk + to, t.dim});
  }
}

// Locates heads in the backward pass's tensors.
template <typename T>
struct Backward {
  const AttentionGradients<T>& g;
  const AttentionShape& shape = g.shape;
  const AttentionInputs<T>& in = g.inputs;

  int64_t QueryAt(int64_t batch, int64_t head) const {
    return batch * shape.seq_len * in.q_stride + head * shape.head_dim;
  }
  int64_t OutputStride() const { return shape.num_heads * shape.head_dim; }

  // Packs block `block` of one head's queries, and the rows of dy, lse and dy_y that belong to
  // them.
  void PackQueries(int64_t batch, int64_t head, int64_t block, const BackwardTiles& t) const {
    const int64_t begin = block * kBlock, rows = Min(kBlock, shape.seq_len - begin);
    const int64_t dim = shape.head_dim, stride = OutputStride();
    const T* from = in.q + QueryAt(batch, head) + begin * in.q_stride;
    PackRows(from, in.q_stride, rows, dim, ScoreScale(dim), kBlock, t.dim, t.q);
    const int64_t at = (batch * shape.seq_len + begin) * stride + head * dim;
    PackRows(g.dy + at, stride, rows, dim, 1, kBlock, t.dim, t.dy);
    const float* lse_row = g.lse + (batch * shape.num_heads + head) * shape.seq_len + begin;
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
    const int64_t at = QueryAt(batch, kv_head);
    for (int64_t key = begin; key < end; key += kBlock) {
      const int64_t rows = Min(kBlock, shape.seq_len - key), to = key * t.dim;
      const int64_t from = at + key * in.kv_stride;
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
      for (int64_t block = Max(q_begin, k_begin); block < q_end; ++block) {
        const int64_t begin = block * kBlock, rows = Min(kBlock, shape.seq_len - begin);
        PackQueries(batch, head, block, t);
        if (want_dq) Fill(t.dq, kBlock * t.dim, 0);
        for (int64_t key = k_begin; key < Min(k_end, block + 1); ++key) {
          BackwardTile(t, begin, rows, key * kBlock, want_dq, want_dkv);
        }
        if (want_dq) {
          UnpackRows(t.dq, t.dim, rows, shape.head_dim, ScoreScale(shape.head_dim),
                     g.dq + QueryAt(batch, head) + begin * in.q_stride, in.q_stride);
        }
      }
    }
    if (!want_dkv) return;
    const int64_t begin = k_begin * kBlock;
    const int64_t rows = Min(k_end * kBlock, shape.seq_len) - begin;
    const int64_t at = QueryAt(batch, kv_head) + begin * in.kv_stride;
    UnpackRows(t.dk + begin * t.dim, t.dim, rows, shape.head_dim, 1, g.dk + at, in.kv_stride);
    UnpackRows(t.dv + begin * t.dim, t.dim, rows, shape.head_dim, 1, g.dv + at, in.kv_stride);
  }
};

}  // namespace

int64_t AttentionForwardScratch(int64_t num_keys, int64_t head_dim) {
  return ForwardTiles::Size(num_keys, head_dim);
}

int64_t AttentionBackwardScratch(int64_t num_keys, int64_t head_dim) {
  return BackwardTiles::Size(num_keys, head_dim);
}

template <typename T>
void AttentionForward(const AttentionInputs<T>& inputs, const AttentionShape& shape, int64_t past,
                      int64_t begin, int64_t end, float* scratch, T* y, float* lse) {
  const int64_t num_keys = past + shape.seq_len, dim = shape.head_dim;
  const int64_t group = shape.num_heads / shape.num_kv_heads;
  const int64_t blocks = NumAttentionBlocks(shape.seq_len), y_stride = shape.num_heads * dim;
  ForwardTiles t(scratch, num_keys, dim);
  int64_t packed = -1;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t head = unit / blocks % shape.num_heads, batch = unit / blocks / shape.num_heads;
    const int64_t kv = batch * shape.num_kv_heads + head / group;
    if (kv != packed) {
      const int64_t at = batch * num_keys * inputs.kv_stride + head / group * dim;
      t.PackKeys(inputs.k + at, inputs.v + at, inputs.kv_stride, num_keys, dim);
      packed = kv;
    }
    const int64_t first = BalancedAttentionBlock(unit % blocks, blocks) * kBlock;
    const int64_t rows = Min(kBlock, shape.seq_len - first);
    const int64_t token = batch * shape.seq_len + first;
    PackRows(inputs.q + token * inputs.q_stride + head * dim, inputs.q_stride, rows, dim,
             ScoreScale(dim), RoundUp(rows, kGroupRows), t.dim, t.q);
    GroupState states[kBlock / kGroupRows];
    AttendBlock(t, past + first, rows, states);
    for (int64_t r = 0; r < rows; ++r) {
      const GroupState& state = states[r / kGroupRows];
      const float sum = state.sum[r % kGroupRows];
      UnpackRows(t.y + r * t.dim, t.dim, 1, dim, 1 / sum, y + (token + r) * y_stride + head * dim,
                 y_stride);
      if (lse != nullptr) {
        lse[(batch * shape.num_heads + head) * shape.seq_len + first + r] =
            state.largest[r % kGroupRows] + __builtin_logf(sum);
      }
    }
  }
}

template <typename T>
void AttentionBackward(const AttentionGradients<T>& gradients, const AttentionBackwardUnit& unit,
                       float* scratch) {
  const AttentionShape& shape = gradients.shape;
  Backward<T>{gradients}.Run(unit, BackwardTiles(scratch, shape.seq_len, shape.head_dim));
}

#define STRAKE_INSTANTIATE(T)                                                                 \
  template void AttentionForward(const AttentionInputs<T>&, const AttentionShape&, int64_t,   \
                                 int64_t, int64_t, float*, T*, float*);                       \
  template void AttentionBackward(const AttentionGradients<T>&, const AttentionBackwardUnit&, \
                                  float*);
STRAKE_INSTANTIATE(float)
STRAKE_INSTANTIATE(Bf16)

}  // namespace strake::cpu::STRAKE_CPU_ISA
