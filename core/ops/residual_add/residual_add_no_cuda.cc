// residual_add.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/residual_add/residual_add_cuda.h"

namespace strake::cuda {

template <typename T>
absl::Status ResidualAddForward(CudaStream, const T*, const T*, int64_t, T*) {
  return NoCuda();
}

template absl::Status ResidualAddForward<float>(CudaStream, const float*, const float*, int64_t,
                                                float*);
template absl::Status ResidualAddForward<Bf16>(CudaStream, const Bf16*, const Bf16*, int64_t,
                                               Bf16*);

}  // namespace strake::cuda
