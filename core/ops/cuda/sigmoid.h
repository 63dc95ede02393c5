// Included by kernels' .cu files: the logistic function. It is cheap enough for a kernel that keeps
// up with HBM, where a block of 8 bf16 has about 25 instructions per element.
#ifndef STRAKE_CORE_OPS_CUDA_SIGMOID_H_
#define STRAKE_CORE_OPS_CUDA_SIGMOID_H_

#include "core/cuda/portable.h"

namespace strake::cuda {

inline constexpr float kLog2E = 1.44269504088896340736f;

// x / (1 + 2^-z). __fdividef returns 0 for a divisor above 2^126, where the true result is nearly
// 0, too.
__device__ __forceinline__ float TimesSigmoid2(float x, float z) {
  return __fdividef(x, 1 + exp2f(-z));
}

struct SigmoidPair {
  float value, complement;  // 1 - value, without cancellation
};

// 1 / (1 + 2^-z).
__device__ __forceinline__ SigmoidPair Sigmoid2(float z) {
  const float small = exp2f(-fabsf(z));  // does not overflow
  const float large_side = __fdividef(1.f, 1 + small), small_side = small * large_side;
  return z < 0 ? SigmoidPair{small_side, large_side} : SigmoidPair{large_side, small_side};
}

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_CUDA_SIGMOID_H_
