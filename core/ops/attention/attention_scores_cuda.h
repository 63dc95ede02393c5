// The operands of attention's kernels, and the forms of its scores.
//
// A form is an argument of a kernel's template, so that plain scores take no registers and no time
// for windows, soft caps and documents.
#ifndef STRAKE_CORE_OPS_ATTENTION_ATTENTION_SCORES_CUDA_H_
#define STRAKE_CORE_OPS_ATTENTION_ATTENTION_SCORES_CUDA_H_

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>

#include "absl/status/status.h"
#include "core/cuda/portable.h"
#include "core/ops/attention/attention_shape.h"
#include "core/ops/cuda/vectorize.h"

namespace strake::cuda {

// A window that no key is outside of.
inline constexpr int kNoWindow = INT32_MAX;

// Query i of a sequence is at position past + i and attends to keys at positions up to its own, of
// which it sees the last `window`. Strides are distances between the rows of tokens; the pointers
// point at head 0.
template <typename T>
struct AttentionInputs {
  const T *q, *k, *v;
  int64_t q_stride, kv_stride;
  int batch, num_heads, group, head_dim;  // group: query heads per key/value head
  int num_queries, past, window;
  float scale, softcap, inverse_softcap;  // the cap and its inverse are 0 where there is none
  bool aligned;                           // whether rows of heads are aligned to 16 bytes
};

template <typename T>
AttentionInputs<T> FusedAttentionInputs(const T* qkv, const AttentionShape& shape) {
  const int heads = shape.num_heads, kv_heads = shape.num_kv_heads, head_dim = shape.head_dim;
  const int64_t stride = int64_t{heads + 2 * kv_heads} * head_dim;
  const T* const k = qkv + heads * head_dim;
  const double cap = shape.score_softcap;
  const int64_t window = shape.window == 0 ? kNoWindow : shape.window;
  return {.q = qkv,
          .k = k,
          .v = k + kv_heads * head_dim,
          .q_stride = stride,
          .kv_stride = stride,
          .batch = static_cast<int>(shape.batch),
          .num_heads = heads,
          .group = heads / kv_heads,
          .head_dim = head_dim,
          .num_queries = static_cast<int>(shape.seq_len),
          .past = 0,
          .window = static_cast<int>(std::min<int64_t>(window, kNoWindow)),
          .scale = static_cast<float>(shape.Scale()),
          .softcap = static_cast<float>(cap),
          .inverse_softcap = static_cast<float>(cap == 0 ? 0 : 1 / cap),
          .aligned = Vectorizes<T>(head_dim, {qkv})};
}

// The rows of whole sequences, whose matrices have no others.
struct WholeSequences {
  static constexpr bool kPartial = false;
  template <typename T>
  static __device__ __forceinline__ int NumKeys(const AttentionInputs<T>& in) {
    return in.past + in.num_queries;
  }
  // The rows of the first query and key of sequence `batch`, and the place of a head's first lse.
  template <typename T, typename Int>
  static __device__ __forceinline__ Int QueryRow(const AttentionInputs<T>& in, Int batch) {
    return batch * in.num_queries;
  }
  template <typename Int>
  static __device__ __forceinline__ Int KeyRow(Int batch, int num_keys) {
    return batch * num_keys;
  }
  template <typename T, typename Int>
  static __device__ __forceinline__ Int LseAt(const AttentionInputs<T>& in, Int head) {
    return head * in.num_queries;
  }
  // Returns whether a key up to the query's own is one of the sequence's.
  static __device__ __forceinline__ bool HasKey(int) { return true; }
};

// scale q.k, of all keys up to the query's own.
struct PlainScores : WholeSequences {
  static constexpr bool kSeenByP = false;  // whether a gradient takes p != 0 for what is seen
  // Returns false if the kernel has nothing to do.
  static __device__ __forceinline__ bool Runs() { return true; }
  template <typename T>
  static __device__ __forceinline__ float Score(const AttentionInputs<T>& in, float product) {
    return product * in.scale;
  }
  // The derivative of a score by scale q.k, where p = exp(score - lse); 1 unless HasSlope().
  template <typename T>
  static __device__ __forceinline__ float Slope(const AttentionInputs<T>&, float, float) {
    return 1;
  }
  template <typename T>
  static __device__ __forceinline__ bool HasSlope(const AttentionInputs<T>&) {
    return false;
  }
  // Returns true if the key is in the window of the query at `position` of sequence `batch`, or
  // after the query.
  template <typename T>
  static __device__ __forceinline__ bool Reaches(const AttentionInputs<T>&, int, int, int) {
    return true;
  }
  // The first key that the query at `position` sees.
  template <typename T>
  static __device__ __forceinline__ int FirstKey(const AttentionInputs<T>&, int, int) {
    return 0;
  }
};

// The same with a window, a soft cap, or both.
struct LimitedScores : WholeSequences {
  static constexpr bool kSeenByP = false;
  static __device__ __forceinline__ bool Runs() { return true; }
  template <typename T>
  static __device__ __forceinline__ float Score(const AttentionInputs<T>& in, float product) {
    const float score = product * in.scale;
    return HasSlope(in) ? in.softcap * tanhf(score * in.inverse_softcap) : score;
  }
  // Takes the score from p, which is at hand where the score no longer is. Where p is 0 no gradient
  // passes, whatever the slope.
  template <typename T>
  static __device__ __forceinline__ float Slope(const AttentionInputs<T>& in, float p, float lse) {
    if (!HasSlope(in)) return 1;
    const float tanh = (logf(fmaxf(p, FLT_MIN)) + lse) * in.inverse_softcap;
    return 1 - tanh * tanh;
  }
  template <typename T>
  static __device__ __forceinline__ bool HasSlope(const AttentionInputs<T>& in) {
    return in.softcap != 0;
  }
  template <typename T>
  static __device__ __forceinline__ bool Reaches(const AttentionInputs<T>& in, int, int position,
                                                 int key) {
    return position - key < in.window;
  }
  template <typename T>
  static __device__ __forceinline__ int FirstKey(const AttentionInputs<T>& in, int, int position) {
    return max(position - in.window + 1, 0);
  }
};

// The same within documents: a query sees no further back than its position in its document. What
// it sees begins no earlier than what the queries before it see. Not with past tokens.
struct DocumentScores : LimitedScores {
  // Registers do not hold positions beside the product of the gradient of keys.
  static constexpr bool kSeenByP = true;
  __device__ __forceinline__ bool Runs() const { return only_if == nullptr || *only_if != 0; }
  template <typename T>
  __device__ __forceinline__ int Back(const AttentionInputs<T>& in, int batch, int position) const {
    // Tiles have rows past the last token, whose results are dropped.
    const int token = min(position, in.num_queries - 1);
    return min(positions[int64_t{batch} * in.num_queries + token], in.window - 1);
  }
  template <typename T>
  __device__ __forceinline__ bool Reaches(const AttentionInputs<T>& in, int batch, int position,
                                          int key) const {
    return position - key <= Back(in, batch, position);
  }
  template <typename T>
  __device__ __forceinline__ int FirstKey(const AttentionInputs<T>& in, int batch,
                                          int position) const {
    return max(position - Back(in, batch, position), 0);
  }

  const int32_t* positions;  // [batch, num_queries], each token's in its document
  const int32_t* only_if;    // null, or a number: where it is 0, another library did the work
};

// LimitedScores of some of the keys, which may end before the queries do, in documents where there
// are any. Positions count from the first of these keys on; `past` of the inputs may be negative.
struct PartialScores : LimitedScores {
  static constexpr bool kPartial = true;
  static constexpr bool kSeenByP = true;
  template <typename T>
  __device__ __forceinline__ int NumKeys(const AttentionInputs<T>&) const {
    return num_keys;
  }
  template <typename T, typename Int>
  __device__ __forceinline__ Int QueryRow(const AttentionInputs<T>&, Int batch) const {
    return batch * query_rows + query_row;
  }
  template <typename Int>
  __device__ __forceinline__ Int KeyRow(Int batch, int) const {
    return batch * key_rows + key_row;
  }
  template <typename T, typename Int>
  __device__ __forceinline__ Int LseAt(const AttentionInputs<T>&, Int head) const {
    return head * query_rows + query_row;
  }
  __device__ __forceinline__ bool HasKey(int key) const { return key < num_keys; }
  template <typename T>
  __device__ __forceinline__ int Back(const AttentionInputs<T>& in, int batch, int position) const {
    if (positions == nullptr) return in.window - 1;
    const int query = min(position - in.past, in.num_queries - 1);
    return min(positions[QueryRow(in, int64_t{batch}) + query], in.window - 1);
  }
  template <typename T>
  __device__ __forceinline__ bool Reaches(const AttentionInputs<T>& in, int batch, int position,
                                          int key) const {
    return position - key <= Back(in, batch, position);
  }
  template <typename T>
  __device__ __forceinline__ int FirstKey(const AttentionInputs<T>& in, int batch,
                                          int position) const {
    return max(position - Back(in, batch, position), 0);
  }

  const int32_t* positions;  // [batch, query_rows], or null
  int num_keys;
  int query_rows, query_row, key_rows, key_row;  // of each sequence, and the first of the call
  bool merge;                                    // y and lse begin as those of other keys
  // Sums: dq [batch * query_rows, H*D]; dk and dv, of rows dkv_stride apart.
  float *dq, *dk, *dv;
  int64_t dkv_stride;
};

template <typename Form, typename T>
__device__ __forceinline__ bool Sees(const Form& form, const AttentionInputs<T>& in, int batch,
                                     int position, int key) {
  return key <= position && form.HasKey(key) && form.Reaches(in, batch, position, key);
}

// Calls launch(PlainScores()) if that form serves, else launch(LimitedScores()).
template <typename T, typename F>
absl::Status WithScores(const AttentionInputs<T>& in, F launch) {
  const bool plain = in.softcap == 0 && in.window - in.past >= in.num_queries;
  return plain ? launch(PlainScores()) : launch(LimitedScores());
}

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_SCORES_CUDA_H_
