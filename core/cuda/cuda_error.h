// Errors of the CUDA runtime as Status, for sources that include CUDA's headers.
#ifndef STRAKE_CORE_CUDA_CUDA_ERROR_H_
#define STRAKE_CORE_CUDA_CUDA_ERROR_H_

#include <cuda_runtime_api.h>

#include "absl/status/status.h"

// Returns from the function if the call fails. The error has the call, CUDA's name and text of the
// error, file and line; or it is the sentence of core/cuda/cuda_messages.h that explains it.
#define STRAKE_RETURN_IF_CUDA_ERROR(call)                                        \
  do {                                                                           \
    if (const cudaError_t strake_error = (call); strake_error != cudaSuccess) {  \
      return ::strake::CudaErrorStatus(strake_error, #call, __FILE__, __LINE__); \
    }                                                                            \
  } while (false)

namespace strake {

// `error` is not cudaSuccess. Clears CUDA's last error, so that the next call does not report it
// again.
absl::Status CudaErrorStatus(cudaError_t error, const char* call, const char* file, int line);

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_CUDA_ERROR_H_
