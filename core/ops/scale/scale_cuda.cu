#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/elementwise.h"
#include "core/ops/scale/scale_cuda.h"

namespace strake::cuda {
namespace {

struct Times {
  float factor;
  __device__ float operator()(float x) const { return factor * x; }
};

}  // namespace

template <typename T>
absl::Status Scale(CudaStream stream, const ScaleArgs<T>& args) {
  return Elementwise(stream, Times{args.factor}, args.size, args.y, args.x);
}

STRAKE_SCALE_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
