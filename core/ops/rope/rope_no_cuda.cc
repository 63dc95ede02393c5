// rope.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/rope/rope_cuda.h"

namespace strake::cuda {

template <typename T>
absl::Status Rope(CudaStream, const double*, int64_t, int64_t, int64_t, int64_t, bool, int64_t,
                  int64_t, T*) {
  return NoCuda();
}

template absl::Status Rope<float>(CudaStream, const double*, int64_t, int64_t, int64_t, int64_t,
                                  bool, int64_t, int64_t, float*);
template absl::Status Rope<Bf16>(CudaStream, const double*, int64_t, int64_t, int64_t, int64_t,
                                 bool, int64_t, int64_t, Bf16*);

}  // namespace strake::cuda
