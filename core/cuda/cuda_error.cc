#include "core/cuda/cuda_error.h"

#include <cstdlib>

#include "core/cuda/cuda_messages.h"

namespace strake {

absl::Status CudaErrorStatus(cudaError_t error, const char* call, const char* file, int line) {
  (void)cudaGetLastError();
  if (error == cudaErrorInsufficientDriver) {
    int driver = 0, runtime = 0;
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    return CudaDriverTooOld(driver, runtime);
  }
  if (error == cudaErrorNoDevice) return NoCudaDevice(std::getenv("CUDA_VISIBLE_DEVICES"));
  return CudaCallFailed(call, cudaGetErrorName(error), cudaGetErrorString(error), file, line);
}

}  // namespace strake
