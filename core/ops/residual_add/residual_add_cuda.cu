#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/elementwise.h"
#include "core/ops/residual_add/residual_add_cuda.h"

namespace strake::cuda {
namespace {

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};

}  // namespace

template <typename T>
absl::Status ResidualAddForward(CudaStream stream, const ResidualAddForwardArgs<T>& args) {
  return Elementwise(stream, Sum(), args.size, args.y, args.x, args.residual);
}

STRAKE_RESIDUAL_ADD_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
