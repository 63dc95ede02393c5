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
absl::Status ResidualAddForward(CudaStream stream, const T* x, const T* residual, int64_t size,
                                T* y) {
  return Elementwise<Sum>(stream, size, y, x, residual);
}

template absl::Status ResidualAddForward<float>(CudaStream, const float*, const float*, int64_t,
                                                float*);
template absl::Status ResidualAddForward<Bf16>(CudaStream, const Bf16*, const Bf16*, int64_t,
                                               Bf16*);

}  // namespace strake::cuda
