// Causal attention of f32 and bf16 by blocks of queries against blocks of keys, computed in f32.
// See core/ops/attention/causal_attention.h; here the queries may begin at a later position than
// the keys, and end at a later one, and results of other keys may be merged.
#ifndef STRAKE_CORE_OPS_ATTENTION_ATTENTION_KERNEL_CPU_H_
#define STRAKE_CORE_OPS_ATTENTION_ATTENTION_KERNEL_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/attention/attention_shape.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// Queries or keys per block. 64 rows of 64 features are 16 KiB, so a block of either fits the L1
// cache.
inline constexpr int64_t kAttentionBlock = 64;

constexpr int64_t NumAttentionBlocks(int64_t n) {
  return (n + kAttentionBlock - 1) / kAttentionBlock;
}

// The n-th of `count` blocks in the order first, last, second, last but one, ... Consecutive pairs
// have equal cost under a causal mask, so equal ranges of n do too.
constexpr int64_t BalancedAttentionBlock(int64_t n, int64_t count) {
  return n % 2 == 0 ? n / 2 : count - 1 - n / 2;
}

// Pointers to the first elements of the queries, keys and values of all heads, and the strides
// between tokens.
template <typename T>
struct AttentionInputs {
  const T* q;
  int64_t q_stride;
  const T* k;
  const T* v;
  int64_t kv_stride;
};

// The keys of a sequence. Token n of its queries is at position past + n from the first key on, and
// sees keys up to it. Each query sees at least one.
struct AttentionKeys {
  int64_t past, count;
};

// `y` and `lse`, which may be null, are of all heads; the lse of two heads are lse_stride apart.
// With `merge` they begin as those of other keys: an lse of -infinity and a y of 0 for none.
template <typename Y>
struct AttentionOutputs {
  Y* y;
  float* lse;
  int64_t lse_stride;
  bool merge = false;
};

// Operands of the backward pass. dq, dk and dv are of all heads, with strides between tokens, and
// =, or += with `accumulate`.
template <typename T, typename Gradient>
struct AttentionGradients {
  const AttentionShape& shape;
  AttentionKeys keys;
  AttentionInputs<T> inputs;
  const T* dy;
  const T* y;
  const float* lse;
  int64_t lse_stride;  // between heads
  Gradient* dq;
  int64_t dq_stride;
  Gradient *dk, *dv;
  int64_t dkv_stride;
  bool accumulate;
};

// A unit of the backward pass for one key/value head of a sequence: dq of query blocks
// [q_begin, q_end), or dk and dv of key blocks [k_begin, k_end), or both.
struct AttentionBackwardUnit {
  int64_t batch = 0, kv_head = 0;
  int64_t q_begin = 0, q_end = 0, k_begin = 0, k_end = 0;
  bool want_dq = false, want_dkv = false;
};

// clang-format off
STRAKE_CPU_KERNEL(
// Floats of scratch per thread, 64-byte aligned; `num_keys` is per sequence.
int64_t AttentionForwardScratch(int64_t num_keys, int64_t head_dim);
int64_t AttentionBackwardScratch(int64_t num_keys, int64_t head_dim);

// Computes units [begin, end); a unit is one block of queries of one of all batch * num_heads
// heads.
template <typename T, typename Y>
void AttentionForward(const AttentionInputs<T>& inputs, const AttentionShape& shape,
                      const AttentionKeys& keys, int64_t begin, int64_t end, float* scratch,
                      const AttentionOutputs<Y>& outputs);

template <typename T, typename Gradient>
void AttentionBackward(const AttentionGradients<T, Gradient>& gradients,
                       const AttentionBackwardUnit& unit, float* scratch);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_KERNEL_CPU_H_
