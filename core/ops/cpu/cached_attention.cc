#include "core/ops/cpu/cached_attention.h"

#include <algorithm>
#include <cmath>

#include "core/ops/reference/eigen.h"
#include "core/tensor/tensor_buffer.h"

namespace strake::cpu {
namespace {

// Tokens of the cache at a time: their keys stay near while the heads of a group meet them, and
// all heads' keys of a token are neighbours in memory.
constexpr int64_t kBlock = 32;

using Matrix = reference::ConstMatrix<float>;
using Vector = Eigen::Map<Eigen::VectorXf>;
using ConstVector = Eigen::Map<const Eigen::VectorXf>;

// Aligned rows, so that Eigen sums each in the same order wherever it lies.
int64_t ScoreStride(int64_t num_keys) {
  constexpr int64_t kLine = kTensorAlignment / sizeof(float);
  return (num_keys + kLine - 1) / kLine * kLine;
}

struct Heads {
  const AttentionInputs& in;
  const AttentionShape& shape;
  int64_t past;
  float* scores;  // [N, H, ScoreStride]
  float* y;

  int64_t num_keys() const { return past + shape.seq_len; }
  float* Scores(int64_t n, int64_t h) const {
    return scores + (n * shape.num_heads + h) * ScoreStride(num_keys());
  }
  ConstVector Query(int64_t n, int64_t h) const {
    return ConstVector(in.q + n * in.q_stride + h * shape.head_dim, shape.head_dim);
  }
  Vector Output(int64_t n, int64_t h) const {
    return Vector(y + (n * shape.num_heads + h) * shape.head_dim, shape.head_dim);
  }
  // Keys or values [begin, begin + count) that query head h reads.
  Matrix CacheRows(const float* cache, int64_t h, int64_t begin, int64_t count) const {
    const int64_t kv_head = h / (shape.num_heads / shape.num_kv_heads);
    return Matrix(cache + begin * in.kv_stride + kv_head * shape.head_dim, count, shape.head_dim,
                  Eigen::OuterStride<>(in.kv_stride));
  }

  // body(n, h, first key, number of keys) for heads [begin, end), where token n sees any of the
  // block; in the order in which the cache lies in memory.
  template <typename Body>
  void ForEachBlock(int64_t begin, int64_t end, Body body) const {
    for (int64_t key = 0; key < num_keys(); key += kBlock) {
      for (int64_t h = begin; h < end; ++h) {
        for (int64_t n = 0; n < shape.seq_len; ++n) {
          const int64_t visible = std::min(kBlock, past + n + 1 - key);
          if (visible > 0) body(n, h, key, visible);
        }
      }
    }
  }

  void Softmax(int64_t n, int64_t h) const {
    const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_dim)));
    Eigen::Map<Eigen::ArrayXf, Eigen::Aligned64> p(Scores(n, h), past + n + 1);
    const float shift = p.maxCoeff();
    p = ((p - shift) * scale).exp();
    p /= p.sum();
  }

  void Attend(int64_t begin, int64_t end) const {
    ForEachBlock(begin, end, [&](int64_t n, int64_t h, int64_t key, int64_t count) {
      Vector(Scores(n, h) + key, count).noalias() = CacheRows(in.k, h, key, count) * Query(n, h);
    });
    for (int64_t n = 0; n < shape.seq_len; ++n) {
      for (int64_t h = begin; h < end; ++h) {
        Softmax(n, h);
        Output(n, h).setZero();
      }
    }
    ForEachBlock(begin, end, [&](int64_t n, int64_t h, int64_t key, int64_t count) {
      Output(n, h).noalias() +=
          CacheRows(in.v, h, key, count).transpose() * ConstVector(Scores(n, h) + key, count);
    });
  }
};

}  // namespace

int64_t CachedAttentionScratch(const AttentionShape& shape, int64_t past) {
  return shape.seq_len * shape.num_heads * ScoreStride(past + shape.seq_len);
}

void CachedAttentionForward(ThreadTeam& team, const AttentionInputs& inputs,
                            const AttentionShape& shape, int64_t past, float* scratch, float* y) {
  const Heads heads{inputs, shape, past, scratch, y};
  team.ParallelFor(shape.num_heads, 1,
                   [&](int64_t begin, int64_t end) { heads.Attend(begin, end); });
}

}  // namespace strake::cpu
