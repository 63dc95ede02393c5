// Included by kernels' .cu files: y[i] = op(inputs[i]...), computed in f32.
//
// Memory traffic: each input is read once, and y written once. y may be any of the inputs.
#ifndef STRAKE_CORE_OPS_CUDA_ELEMENTWISE_H_
#define STRAKE_CORE_OPS_CUDA_ELEMENTWISE_H_

#include <type_traits>

#include "core/cuda/portable.h"
#include "core/ops/cuda/vectorize.h"

namespace strake::cuda {

inline constexpr int kElementwiseThreads = 256;
// Vectors that a thread loads before it uses the first: enough in flight to fill HBM, even with one
// input.
inline constexpr int kElementwiseVectors = 2;

// Block b processes kElementwiseThreads * kElementwiseVectors vectors, beginning at b times that
// number. Block 0 also processes the last size % kWidth elements.
template <typename Op, typename T, int kWidth, typename... Inputs>
__global__ void __launch_bounds__(kElementwiseThreads)
    ElementwiseKernel(Op op, int64_t size, T* y, const Inputs*... inputs) {
  const int64_t vectors = size / kWidth;
  const int64_t first =
      int64_t{blockIdx.x} * kElementwiseVectors * kElementwiseThreads + threadIdx.x;
  const auto apply = [&](const Vec<Inputs, kWidth>&... values) {
    Vec<T, kWidth> result = {};
#pragma unroll
    for (int i = 0; i < kWidth; ++i) result.at[i] = FromFloat<T>(op(ToFloat(values.at[i])...));
    return result;
  };
  if (first + kElementwiseThreads < vectors) {
    static_assert(kElementwiseVectors == 2);
    const int64_t at = first * kWidth, next = (first + kElementwiseThreads) * kWidth;
    const Vec<T, kWidth> results[] = {apply(LoadVec<kWidth>(inputs + at)...),
                                      apply(LoadVec<kWidth>(inputs + next)...)};
    StoreVec(y + at, results[0]);
    StoreVec(y + next, results[1]);
  } else if (first < vectors) {
    StoreVec(y + first * kWidth, apply(LoadVec<kWidth>(inputs + first * kWidth)...));
  }
  if (blockIdx.x == 0 && threadIdx.x < size % kWidth) {
    const int64_t i = vectors * kWidth + threadIdx.x;
    y[i] = FromFloat<T>(op(ToFloat(inputs[i])...));
  }
}

template <typename Op, typename T, typename... Inputs>
absl::Status Elementwise(CudaStream stream, Op op, int64_t size, T* y, const Inputs*... inputs) {
  if (size == 0) return absl::OkStatus();
  // A vector has at least 16 bytes of each type.
  using Narrowest =
      std::conditional_t<(std::is_same_v<T, Bf16> || ... || std::is_same_v<Inputs, Bf16>), Bf16,
                         float>;
  return LaunchVectorized<Narrowest>(Vectorizes<T>(0, {y, inputs...}), [&]<int kWidth>() {
    const int64_t per_block = int64_t{kElementwiseVectors} * kElementwiseThreads * kWidth;
    return Launch<ElementwiseKernel<Op, T, kWidth, Inputs...>>(
        stream, (size + per_block - 1) / per_block, kElementwiseThreads, 0, op, size, y, inputs...);
  });
}

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_CUDA_ELEMENTWISE_H_
