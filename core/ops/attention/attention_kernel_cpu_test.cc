#include "core/ops/attention/attention_kernel_cpu.h"

#include <cmath>

#include "core/ops/attention/causal_attention_reference.h"
#include "core/testing/attention_tolerance.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

using testing::AttentionTolerance;
using testing::CopyConvert;
using testing::FillConstant;
using testing::FillNormal;
using testing::MaxAbs;
using testing::RelativeError;
using testing::TestTensor;

// A row of qkv holds H query heads, KV key heads and KV value heads.
struct Attention {
  Attention(DType dtype, const AttentionShape& s)
      : shape(s),
        qkv(dtype, {s.batch * s.seq_len, (s.num_heads + 2 * s.num_kv_heads) * s.head_dim}),
        dqkv(dtype, qkv->shape()),
        y(dtype, {s.batch * s.seq_len, s.num_heads * s.head_dim}),
        dy(dtype, y->shape()),
        lse(dtype, {s.batch, s.num_heads, s.seq_len}) {}

  int64_t stride() const { return qkv->dim(1); }
  int64_t KeysAt() const { return shape.num_heads * shape.head_dim; }
  int64_t ValuesAt() const { return KeysAt() + shape.num_kv_heads * shape.head_dim; }

  AttentionShape shape;
  TestTensor qkv, dqkv, y, dy, lse;
};

// Computes all tokens from `past` on; if `past` is not 0, the batch is 1.
void RunForward(const Attention& x, int64_t past) {
  AttentionShape s = x.shape;
  s.seq_len -= past;
  const float* qkv = x.qkv->data<float>();
  const AttentionInputs<float> inputs = {qkv + past * x.stride(), x.stride(), qkv + x.KeysAt(),
                                         qkv + x.ValuesAt(), x.stride()};
  const TestTensor scratch(DType::kF32, {AttentionForwardScratch(x.shape.seq_len, s.head_dim)});
  const AttentionOutputs<float> outputs = {x.y->data<float>() + past * x.y->dim(1),
                                           past == 0 ? x.lse->data<float>() : nullptr, s.seq_len};
  AttentionForward(inputs, s, {past, x.shape.seq_len}, 0,
                   s.batch * s.num_heads * NumAttentionBlocks(s.seq_len), scratch->data<float>(),
                   outputs);
}

void RunBackward(const Attention& x) {
  const AttentionShape& s = x.shape;
  const float* qkv = x.qkv->data<float>();
  float* dqkv = x.dqkv->data<float>();
  const AttentionGradients<float, float> gradients = {
      .shape = s,
      .keys = {0, s.seq_len},
      .inputs = {qkv, x.stride(), qkv + x.KeysAt(), qkv + x.ValuesAt(), x.stride()},
      .dy = x.dy->data<float>(),
      .y = x.y->data<float>(),
      .lse = x.lse->data<float>(),
      .lse_stride = s.seq_len,
      .dq = dqkv,
      .dq_stride = x.stride(),
      .dk = dqkv + x.KeysAt(),
      .dv = dqkv + x.ValuesAt(),
      .dkv_stride = x.stride(),
      .accumulate = false};
  const TestTensor scratch(DType::kF32, {AttentionBackwardScratch(s.seq_len, s.head_dim)});
  const int64_t blocks = NumAttentionBlocks(s.seq_len);
  for (int64_t head = 0; head < s.batch * s.num_kv_heads; ++head) {
    AttentionBackward(gradients,
                      {.batch = head / s.num_kv_heads,
                       .kv_head = head % s.num_kv_heads,
                       .q_end = blocks,
                       .k_end = blocks,
                       .want_dq = true,
                       .want_dkv = true},
                      scratch->data<float>());
  }
}

// Computes both passes of all tokens, in f64.
void RunDefinition(const Attention& x) {
  const AttentionShape& s = x.shape;
  FillConstant(x.dqkv, 0);
  for (int64_t i = 0; i < s.batch * s.num_heads; ++i) {
    const int64_t batch = i / s.num_heads, head = i % s.num_heads;
    const int64_t kv_head = head / (s.num_heads / s.num_kv_heads), token = batch * s.seq_len;
    const int64_t q_at = token * x.stride() + head * s.head_dim,
                  k_at = token * x.stride() + x.KeysAt() + kv_head * s.head_dim,
                  v_at = k_at + x.ValuesAt() - x.KeysAt(),
                  y_at = token * x.y->dim(1) + head * s.head_dim;
    const double *qkv = x.qkv->data<double>(), *dy = x.dy->data<double>();
    double *dqkv = x.dqkv->data<double>(), *y = x.y->data<double>();
    double* lse = x.lse->data<double>() + i * s.seq_len;
    reference::CausalAttentionForward<double>({.q = qkv + q_at,
                                               .k = qkv + k_at,
                                               .v = qkv + v_at,
                                               .stride = x.stride(),
                                               .shape = s,
                                               .y = y + y_at,
                                               .y_stride = x.y->dim(1),
                                               .lse = lse});
    reference::CausalAttentionBackward<double>({.dy = dy + y_at,
                                                .q = qkv + q_at,
                                                .k = qkv + k_at,
                                                .v = qkv + v_at,
                                                .stride = x.stride(),
                                                .y = y + y_at,
                                                .y_stride = x.y->dim(1),
                                                .lse = lse,
                                                .shape = s,
                                                .dq = dqkv + q_at,
                                                .dk = dqkv + k_at,
                                                .dv = dqkv + v_at});
  }
}

// Ragged heads and sequences; groups of heads; several blocks.
TEST(AttentionKernelTest, FollowsF64) {
  for (const AttentionShape& s : {AttentionShape{2, 17, 4, 2, 8},
                                  {1, 64, 2, 2, 16},
                                  {1, 70, 3, 1, 33},
                                  {2, 150, 2, 1, 40},
                                  {3, 2, 1, 1, 5},
                                  {1, 200, 3, 1, 33, 1},
                                  {1, 200, 2, 1, 33, 13},
                                  {2, 150, 4, 2, 40, 64},
                                  {1, 300, 2, 1, 17, 130},
                                  {1, 70, 2, 1, 17, 0, 0.4, 2},
                                  {2, 261, 4, 2, 24, 50, 0.3, 1.5}}) {
    SCOPED_TRACE(::testing::Message() << "T " << s.seq_len << ", D " << s.head_dim);
    const Attention f32(DType::kF32, s), f64(DType::kF64, s);
    FillNormal(f32.qkv, 1);
    FillNormal(f32.dy, 2);
    CopyConvert(f32.qkv, f64.qkv);
    CopyConvert(f32.dy, f64.dy);
    RunDefinition(f64);
    RunForward(f32, /*past=*/0);
    RunBackward(f32);
    const double tolerance = AttentionTolerance(s.head_dim, s.seq_len);
    EXPECT_LE(RelativeError(f32.y, f64.y), tolerance);
    EXPECT_LE(RelativeError(f32.lse, f64.lse), tolerance);
    EXPECT_LE(RelativeError(f32.dqkv, f64.dqkv), 2 * tolerance);
    EXPECT_GT(MaxAbs(f64.dqkv), 0.1);
  }
}

// The first query may be anywhere in a vector of keys, and in a block of them.
void ExpectQueriesBehindKeysFollowF64(const AttentionShape& options) {
  for (const int64_t past : {1, 7, 13, 60, 64, 150}) {
    for (const int64_t tokens : {1, 9, 70}) {
      SCOPED_TRACE(::testing::Message() << tokens << " tokens behind " << past);
      AttentionShape s = options;
      s.seq_len = past + tokens;
      const Attention f32(DType::kF32, s), f64(DType::kF64, s);
      FillNormal(f32.qkv, 1);
      FillNormal(f64.dy, 2);
      CopyConvert(f32.qkv, f64.qkv);
      RunDefinition(f64);
      RunForward(f32, past);
      EXPECT_LE(RelativeError(f32.y->Rows(past, s.seq_len), f64.y->Rows(past, s.seq_len)),
                AttentionTolerance(s.head_dim, s.seq_len));
      EXPECT_TRUE(std::isnan(f32.y->data<float>()[past * f32.y->dim(1) - 1]));
    }
  }
}

TEST(AttentionKernelTest, QueriesBehindKeysFollowF64) {
  ExpectQueriesBehindKeysFollowF64({1, 0, 2, 1, 24});
  ExpectQueriesBehindKeysFollowF64({1, 0, 2, 1, 24, 10});
  ExpectQueriesBehindKeysFollowF64({1, 0, 2, 1, 24, 75, 0.3, 2});
}

}  // namespace
}  // namespace strake::cpu::STRAKE_CPU_ISA
