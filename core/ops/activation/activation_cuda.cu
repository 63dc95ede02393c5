#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/activation/activation_cuda.h"
#include "core/ops/activation/activation_functions_cuda.h"
#include "core/ops/cuda/elementwise.h"

namespace strake::cuda {
namespace {

template <typename Function>
struct Forward {
  __device__ float operator()(float x) const { return Function::Value(x); }
};

template <typename Function>
struct Backward {
  __device__ float operator()(float dy, float x) const { return dy * Function::Both(x).slope; }
};

}  // namespace

template <typename T>
absl::Status ActivationForward(CudaStream stream, const ActivationForwardArgs<T>& args) {
  return DispatchActivation(args.kind, [&]<ActivationKind kKind>() {
    using Function = typename ActivationFunction<kKind>::type;
    return Elementwise(stream, Forward<Function>(), args.size, args.y, args.x);
  });
}

template <typename T>
absl::Status ActivationBackward(CudaStream stream, const ActivationBackwardArgs<T>& args) {
  return DispatchActivation(args.kind, [&]<ActivationKind kKind>() {
    using Function = typename ActivationFunction<kKind>::type;
    return Elementwise(stream, Backward<Function>(), args.size, args.dx, args.dy, args.x);
  });
}

STRAKE_ACTIVATION_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
