// adamw.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/adamw/adamw_cuda.h"

namespace strake::cuda {

absl::Status AdamWUpdate(CudaStream, const AdamWScalars<float>*, bool, const double*, const float*,
                         int64_t, float*, float*, float*, Bf16*) {
  return NoCuda();
}

}  // namespace strake::cuda
