// squared_norm.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/squared_norm/squared_norm_cuda.h"

namespace strake::cuda {

int64_t SquaredNormWorkspaceSize(int64_t) { return 0; }

absl::Status SquaredNormForward(CudaStream, const float*, int64_t, double*, double*) {
  return NoCuda();
}

absl::Status SquaredNormBackward(CudaStream, const float*, const double*, int64_t, float*) {
  return NoCuda();
}

}  // namespace strake::cuda
