// Problems of the CUDA kernels of causal attention, and their check against the reference in f64.
#ifndef STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_PROBLEM_H_
#define STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_PROBLEM_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "core/ops/attention/causal_attention_cuda.h"
#include "core/ops/attention/causal_attention_reference.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake::testing {

inline int64_t Tokens(const AttentionShape& s) { return s.batch * s.seq_len; }
inline int64_t Columns(const AttentionShape& s) {
  return (s.num_heads + 2 * s.num_kv_heads) * s.head_dim;
}
inline int64_t OutputColumns(const AttentionShape& s) { return s.num_heads * s.head_dim; }

inline std::string ToString(const AttentionShape& s) {
  return "B " + std::to_string(s.batch) + ", T " + std::to_string(s.seq_len) + ", H " +
         std::to_string(s.num_heads) + ", KV " + std::to_string(s.num_kv_heads) + ", D " +
         std::to_string(s.head_dim) + ", window " + std::to_string(s.window) + ", scale " +
         std::to_string(s.score_scale) + ", cap " + std::to_string(s.score_softcap);
}

// Buffers of one problem. They end at a guard page, where odd sizes are unaligned, or start at one,
// where all are aligned.
template <typename T>
struct AttentionProblem {
  AttentionProblem(const AttentionShape& shape, GuardAt guard_at, float scale = 1,
                   const std::vector<int64_t>& lengths = {})
      : shape(shape),
        qkv("qkv", Tokens(shape) * Columns(shape), guard_at),
        y("y", Tokens(shape) * OutputColumns(shape), guard_at),
        dy("dy", Tokens(shape) * OutputColumns(shape), guard_at),
        dqkv("dqkv", Tokens(shape) * Columns(shape), guard_at),
        lse("lse", Tokens(shape) * shape.num_heads, guard_at),
        workspace("workspace", cuda::CausalAttentionBackwardWorkspaceSize(shape), guard_at),
        positions("positions", lengths.empty() ? 0 : Tokens(shape), guard_at) {
    FillNormal(qkv, 1, scale);
    FillNormal(dy, 2);
    int32_t* at = positions.data();
    for (const int64_t length : lengths) {
      std::iota(at, at + length, 0);
      at += length;
    }
  }

  absl::Status Forward() {
    return cuda::CausalAttentionForward<T>(nullptr, {.qkv = qkv.data(),
                                                     .shape = shape,
                                                     .y = y.data(),
                                                     .lse = lse.data(),
                                                     .positions = Positions(0),
                                                     .only_if = only_if});
  }
  absl::Status Backward() {
    return cuda::CausalAttentionBackward<T>(nullptr, {.dy = dy.data(),
                                                      .qkv = qkv.data(),
                                                      .y = y.data(),
                                                      .lse = lse.data(),
                                                      .shape = shape,
                                                      .dqkv = dqkv.data(),
                                                      .workspace = workspace.data(),
                                                      .positions = Positions(0),
                                                      .only_if = only_if});
  }
  // Those of sequence `batch`, or null.
  const int32_t* Positions(int64_t batch) const {
    return positions.size() == 0 ? nullptr : positions.data() + batch * shape.seq_len;
  }

  AttentionShape shape;
  GuardedBuffer<T> qkv, y, dy, dqkv;
  GuardedBuffer<float> lse, workspace;
  GuardedBuffer<int32_t> positions;
  const int32_t* only_if = nullptr;
};

struct AttentionOffsets {
  AttentionOffsets(const AttentionShape& s, int64_t b, int64_t h)
      : q(b * s.seq_len * Columns(s) + h * s.head_dim),
        k(b * s.seq_len * Columns(s) +
          (s.num_heads + h / (s.num_heads / s.num_kv_heads)) * s.head_dim),
        v(k + s.num_kv_heads * s.head_dim),
        y(b * s.seq_len * OutputColumns(s) + h * s.head_dim),
        lse((b * s.num_heads + h) * s.seq_len) {}
  int64_t q, k, v, y, lse;
};

struct AttentionTruth {
  std::vector<double> y, lse, dqkv;
};

// The reference's backward pass from the y and lse that the kernels rounded, so that only the
// backward kernels are judged.
template <typename T>
AttentionTruth Reference(const AttentionProblem<T>& p) {
  const AttentionShape& s = p.shape;
  const std::vector<double> x = ToDouble(p.qkv), dy = ToDouble(p.dy), y = ToDouble(p.y),
                            lse = ToDouble(p.lse);
  AttentionTruth truth{std::vector<double>(y.size()), std::vector<double>(lse.size()),
                       std::vector<double>(x.size(), 0.0)};
  for (int64_t unit = 0; unit < s.batch * s.num_heads; ++unit) {
    const AttentionOffsets at(s, unit / s.num_heads, unit % s.num_heads);
    reference::CausalAttentionForward<double>({.q = x.data() + at.q,
                                               .k = x.data() + at.k,
                                               .v = x.data() + at.v,
                                               .stride = Columns(s),
                                               .shape = s,
                                               .y = truth.y.data() + at.y,
                                               .y_stride = OutputColumns(s),
                                               .lse = truth.lse.data() + at.lse,
                                               .positions = p.Positions(unit / s.num_heads)});
    reference::CausalAttentionBackward<double>({.dy = dy.data() + at.y,
                                                .q = x.data() + at.q,
                                                .k = x.data() + at.k,
                                                .v = x.data() + at.v,
                                                .stride = Columns(s),
                                                .y = y.data() + at.y,
                                                .y_stride = OutputColumns(s),
                                                .lse = lse.data() + at.lse,
                                                .shape = s,
                                                .dq = truth.dqkv.data() + at.q,
                                                .dk = truth.dqkv.data() + at.k,
                                                .dv = truth.dqkv.data() + at.v,
                                                .positions = p.Positions(unit / s.num_heads)});
  }
  return truth;
}

// The largest 2-norm of the heads [begin, end) of rows of qkv.
template <typename T>
double LargestNorm(const AttentionProblem<T>& p, int64_t begin, int64_t end) {
  const std::vector<double> x = ToDouble(p.qkv);
  double largest = 0;
  for (int64_t row = 0; row < Tokens(p.shape); ++row) {
    for (int64_t head = begin; head < end; ++head) {
      double sum = 0;
      for (int64_t d = 0; d < p.shape.head_dim; ++d) {
        const double value = x[row * Columns(p.shape) + head * p.shape.head_dim + d];
        sum += value * value;
      }
      largest = std::max(largest, std::sqrt(sum));
    }
  }
  return largest;
}

// A relative error of p is an absolute error of a score: a sum of D products, and so about sqrt(D)
// roundings of at most the largest score (by Cauchy and Schwarz), plus those of the scale, the
// shift and exp. The sum over keys adds about sqrt(T). The factor 4 is for the tail. A soft cap
// makes errors of scores smaller, and adds those of tanh and log, which the factor has room for.
template <typename T>
double Bound(const AttentionProblem<T>& p) {
  const AttentionShape& s = p.shape;
  const double score = LargestNorm(p, 0, s.num_heads) *
                       LargestNorm(p, s.num_heads, s.num_heads + s.num_kv_heads) * s.Scale();
  return 4 * 0x1p-24 * ((std::sqrt(s.head_dim) + 4) * (1 + score) + std::sqrt(s.seq_len));
}

template <typename T>
void CheckAttention(AttentionProblem<T>& p) {
  SCOPED_TRACE(ToString(p.shape));
  ASSERT_EQ(p.Forward(), absl::OkStatus());
  ASSERT_EQ(p.Backward(), absl::OkStatus());
  const AttentionTruth truth = Reference(p);
  const double bound = Bound(p);
  ExpectNear(ToDouble(p.y), truth.y, bound + kRoundoff<T>, "y");
  for (size_t i = 0; i < truth.lse.size(); ++i) {
    ASSERT_NEAR(p.lse[i], truth.lse[i], bound * (1 + std::abs(truth.lse[i]))) << "lse " << i;
  }
  // Two products in sequence: the rounding of dp adds to that of p.
  ExpectNear(ToDouble(p.dqkv), truth.dqkv, 2 * bound + kRoundoff<T>, "dqkv");
}

}  // namespace strake::testing

#endif  // STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_PROBLEM_H_
