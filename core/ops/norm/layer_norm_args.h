// Arguments of the kernels of LayerNorm: the reference, the CPU's and CUDA's.
//
// N rows, C columns. T: the tensors' type; Stat: the type of statistics and sums, f32 for f32 and
// bf16.
#ifndef STRAKE_CORE_OPS_NORM_LAYER_NORM_ARGS_H_
#define STRAKE_CORE_OPS_NORM_LAYER_NORM_ARGS_H_

#include <cstdint>

namespace strake {

template <typename T, typename Stat = float>
struct LayerNormForwardArgs {
  const T* x;                   // [N, C]
  const T* residual = nullptr;  // [N, C], or null: then sum is x, and not written
  const T *weight, *bias;       // [C]
  int64_t rows, columns;
  double eps;
  T* sum = nullptr;   // [N, C]
  T* y;               // [N, C]
  Stat *mean, *rstd;  // [N]
};

template <typename T, typename Stat = float>
struct LayerNormBackwardArgs {
  const T *dy, *x;          // [N, C]; x is the forward pass's sum
  const T* weight;          // [C]
  const Stat *mean, *rstd;  // [N]
  int64_t rows, columns;
  bool accumulate_dx;         // dx += instead of =
  T* dx;                      // [N, C], or null
  Stat *dweight, *dbias;      // [C], +=, or null
  Stat* workspace = nullptr;  // CUDA's
};

}  // namespace strake

#endif  // STRAKE_CORE_OPS_NORM_LAYER_NORM_ARGS_H_
