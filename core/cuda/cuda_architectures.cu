#include "core/cuda/cuda_architectures.h"

namespace strake {
namespace {

__global__ void ProbeKernel() {}

}  // namespace

// Defined by the rule cuda_library.
const char* BuiltCudaArchitectures() { return STRAKE_CUDA_ARCHITECTURES; }

cudaError_t LoadCudaProbe() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, ProbeKernel);
}

}  // namespace strake
