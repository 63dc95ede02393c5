// Messages for GPUs that cannot be used: one sentence each, with the remedy.
#ifndef STRAKE_CORE_CUDA_CUDA_MESSAGES_H_
#define STRAKE_CORE_CUDA_CUDA_MESSAGES_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace strake {

// `driver` and `runtime` are versions as CUDA writes them, 13000 for 13.0. Version 0 of the driver
// means that there is none.
absl::Status CudaDriverTooOld(int driver, int runtime);

// `visible_devices`: the value of CUDA_VISIBLE_DEVICES, or null if it is not set.
absl::Status NoCudaDevice(const char* visible_devices);

absl::Status NoSuchCudaDevice(int device, int num_devices);

// `name`: the GPU's name; `built`: "sm_80, sm_90a".
absl::Status CudaArchitectureNotBuilt(int device, absl::string_view name, int major, int minor,
                                      absl::string_view built);

// ResourceExhausted.
absl::Status NotEnoughCudaMemory(int device, size_t wanted_bytes, size_t free_bytes,
                                 size_t total_bytes);

// For any other failed call, with CUDA's name and text of its error.
absl::Status CudaCallFailed(absl::string_view call, absl::string_view error_name,
                            absl::string_view error_text, absl::string_view file, int line);

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_CUDA_MESSAGES_H_
