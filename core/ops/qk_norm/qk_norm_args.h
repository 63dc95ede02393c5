// Arguments of the kernels of QkNorm: the reference, the CPU's and CUDA's.
//
// T: the tensors' type; Stat: the type of statistics and sums, f32 for f32 and bf16.
#ifndef STRAKE_CORE_OPS_QK_NORM_QK_NORM_ARGS_H_
#define STRAKE_CORE_OPS_QK_NORM_QK_NORM_ARGS_H_

#include <cstdint>

namespace strake {

// The queries, or the keys: `num_groups` groups of neighbouring columns.
template <typename T>
struct QkNormPart {
  int64_t first_column, first_group;
  int64_t num_groups, group_columns;
  const T* weight;  // [group_columns]
};

template <typename T, typename Stat = float>
struct QkNormForwardArgs {
  QkNormPart<T> parts[2];  // queries, keys
  int64_t rows, columns;   // of qkv
  int64_t num_normalized, num_groups;
  int num_ranks;
  double eps, weight_offset;
  const Stat* sums = nullptr;  // [rows, num_groups]; null: computed
  T* qkv;                      // [rows, columns]
  T* raw = nullptr;            // [rows, num_normalized], or null
  Stat* rstd;                  // [rows, num_groups]
};

template <typename T, typename Stat = float>
struct QkNormBackwardArgs {
  QkNormPart<T> parts[2];
  int64_t rows, columns;
  int64_t num_normalized, num_groups;
  int num_ranks;
  double weight_offset;
  const T* raw;
  const Stat* rstd;
  const Stat* sums = nullptr;
  T* dqkv;                    // [rows, columns]
  bool weights_only = false;  // dqkv stays
  Stat* dweights[2];          // [group_columns] of each part, +=, or null
  Stat* workspace = nullptr;  // CUDA's
};

// sums[n, part] = sum_c a[n,c] b[n,c] (weight_offset + weight[c]), over the part's one group; where
// b is null, of a[n,c]^2.
template <typename T, typename Stat = float>
struct QkNormSumsArgs {
  QkNormPart<T> parts[2];
  int64_t rows;
  const T* a;
  int64_t a_columns;
  const T* b;
  int64_t b_columns;
  double weight_offset = 0;
  Stat* sums;  // [rows, 2]
};

}  // namespace strake

#endif  // STRAKE_CORE_OPS_QK_NORM_QK_NORM_ARGS_H_
