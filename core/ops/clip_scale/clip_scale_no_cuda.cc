// clip_scale.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/clip_scale/clip_scale_cuda.h"

namespace strake::cuda {

absl::Status ClipScale(CudaStream, const double*, double, double*) { return NoCuda(); }

}  // namespace strake::cuda
