// sum.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/sum/sum_cuda.h"

namespace strake::cuda {

absl::Status AddSum(CudaStream, const float*, int64_t, double*) { return NoCuda(); }
absl::Status AddSum(CudaStream, const double*, int64_t, double*) { return NoCuda(); }

}  // namespace strake::cuda
