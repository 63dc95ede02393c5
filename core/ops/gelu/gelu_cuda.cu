#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/elementwise.h"
#include "core/ops/cuda/sigmoid.h"
#include "core/ops/gelu/gelu_cuda.h"

namespace strake::cuda {
namespace {

// (1 + tanh(u)) / 2 = 1 / (1 + exp(-2 u)) = 1 / (1 + 2^-z), with z = x (kLinear + kCubic x^2).
constexpr float kTwoSqrtTwoOverPi = 1.59576912160573071176f;
constexpr float kLinear = kTwoSqrtTwoOverPi * kLog2E;
constexpr float kCubic = kLinear * 0.044715f;

struct Gelu {
  __device__ float operator()(float x) const {
    return TimesSigmoid2(x, x * (kLinear + kCubic * x * x));
  }
};

// gelu' = s + x (s (1 - s)) 2 u'.
struct GeluGradient {
  __device__ float operator()(float dy, float x) const {
    const SigmoidPair s = Sigmoid2(x * (kLinear + kCubic * x * x));
    const float slope = kTwoSqrtTwoOverPi * (1 + 3 * 0.044715f * x * x);
    // In this order the first product is 0 where x^3 would overflow.
    return dy * (s.value + x * (s.value * s.complement) * slope);
  }
};

}  // namespace

template <typename T>
absl::Status GeluForward(CudaStream stream, const GeluForwardArgs<T>& args) {
  return Elementwise<Gelu>(stream, args.size, args.y, args.x);
}

template <typename T>
absl::Status GeluBackward(CudaStream stream, const GeluBackwardArgs<T>& args) {
  return Elementwise<GeluGradient>(stream, args.size, args.dx, args.dy, args.x);
}

STRAKE_GELU_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
