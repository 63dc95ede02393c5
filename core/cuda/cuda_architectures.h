// What this binary's kernels were compiled for.
#ifndef STRAKE_CORE_CUDA_CUDA_ARCHITECTURES_H_
#define STRAKE_CORE_CUDA_CUDA_ARCHITECTURES_H_

#include <cuda_runtime_api.h>

namespace strake {

// "sm_80, sm_90a".
const char* BuiltCudaArchitectures();

// Loads an empty kernel on the current device: cudaErrorNoKernelImageForDevice when the binary was
// not built for it.
cudaError_t LoadCudaProbe();

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_CUDA_ARCHITECTURES_H_
