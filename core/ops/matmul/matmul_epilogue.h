// What a product's options ask for, for the files of this op.
#ifndef STRAKE_CORE_OPS_MATMUL_MATMUL_EPILOGUE_H_
#define STRAKE_CORE_OPS_MATMUL_MATMUL_EPILOGUE_H_

#include <cstdint>

#include "core/ops/matmul/matmul.h"
#include "core/tensor/tensor.h"

namespace strake {

struct MatmulSizes {
  int64_t m, n, k;
};

inline bool HasGelu(const MatmulOptions& options) {
  return options.gelu_input.defined() || options.gelu_grad_input.defined();
}

inline bool HasEpilogue(const MatmulOptions& options) {
  return options.bias.defined() || HasGelu(options);
}

inline bool HasSums(const MatmulOptions& options) {
  return options.a_sums.defined() || options.b_sums.defined();
}

// The sums, and the operand whose rows, as it is stored, are summed.
inline const Tensor& SumsOf(const MatmulOptions& options) {
  return options.a_sums.defined() ? options.a_sums : options.b_sums;
}
inline const Tensor& SummedOf(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  return options.a_sums.defined() ? a : b;
}

// The tensor that receives the product, with the bias and before any GELU.
inline const Tensor& ProductOf(const MatmulOptions& options, const Tensor& c) {
  return options.gelu_input.defined() ? options.gelu_input : c;
}

}  // namespace strake

#endif  // STRAKE_CORE_OPS_MATMUL_MATMUL_EPILOGUE_H_
