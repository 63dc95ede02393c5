// The architectures that this binary's kernels were compiled for.
#ifndef STRAKE_CORE_CUDA_CUDA_ARCHITECTURES_H_
#define STRAKE_CORE_CUDA_CUDA_ARCHITECTURES_H_

#include <cuda_runtime_api.h>

namespace strake {

// "sm_80, sm_90a".
const char* BuiltCudaArchitectures();

// Loads an empty kernel on the current device. Returns cudaErrorNoKernelImageForDevice if the
// binary was not built for that device.
cudaError_t LoadCudaProbe();

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_CUDA_ARCHITECTURES_H_
