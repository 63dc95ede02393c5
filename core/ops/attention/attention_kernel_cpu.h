// Causal attention of f32 and bf16 by blocks of queries against blocks of keys, computed in f32.
// See core/ops/attention/causal_attention.h; here the queries may begin at a later position than
// the keys.
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

// Operands of the backward pass. Gradients have the layout of the inputs;
// kv_stride == q_stride.
template <typename T>
struct AttentionGradients {
  const AttentionShape& shape;
  AttentionInputs<T> inputs;
  const T* dy;
  const T* y;
  const float* lse;
  int64_t lse_stride;  // between heads
  T *dq, *dk, *dv;
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
// heads. Token n of a sequence is at position past + n and sees keys up to it. lse may be null;
// of two heads it is lse_stride apart.
template <typename T>
void AttentionForward(const AttentionInputs<T>& inputs, const AttentionShape& shape, int64_t past,
                      int64_t begin, int64_t end, float* scratch, T* y, float* lse,
                      int64_t lse_stride);

template <typename T>
void AttentionBackward(const AttentionGradients<T>& gradients, const AttentionBackwardUnit& unit,
                       float* scratch);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_KERNEL_CPU_H_
