// philox.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/philox/philox_cuda.h"

namespace strake::cuda {

template <typename T>
absl::Status PhiloxUniform(CudaStream, const Philox&, uint64_t, int64_t, T*) {
  return NoCuda();
}

template absl::Status PhiloxUniform<float>(CudaStream, const Philox&, uint64_t, int64_t, float*);
template absl::Status PhiloxUniform<Bf16>(CudaStream, const Philox&, uint64_t, int64_t, Bf16*);

}  // namespace strake::cuda
