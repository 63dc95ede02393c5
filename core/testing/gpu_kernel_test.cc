// Linked into a kernel test that was written for the emulator. Makes its buffers accessible to a
// GPU at the same addresses, and makes every launch wait for the end of its kernel.
//
// The buffers stay in host memory, so an access past their end faults here, too. Where the driver
// cannot register host memory, as in some sandboxes, they are in managed memory, and an access past
// their end shows when they are freed. Speed on them is not meaningful.
#include <cuda_runtime_api.h>

#include <cstdlib>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/cuda/cuda_error.h"
#include "core/testing/guarded_buffer.h"

namespace strake::testing {
namespace {

absl::Status Register(void* data, size_t num_bytes) {
  STRAKE_RETURN_IF_CUDA_ERROR(cudaHostRegister(data, num_bytes, cudaHostRegisterPortable));
  return absl::OkStatus();
}

absl::StatusOr<void*> AllocateManaged(size_t num_bytes) {
  void* data = nullptr;
  STRAKE_RETURN_IF_CUDA_ERROR(cudaMallocManaged(&data, num_bytes));
  return data;
}

void FreeManaged(void* data) { (void)cudaFree(data); }

// After a failed kernel no call works, and the kernel's own error has been reported.
void Unregister(void* data) { (void)cudaHostUnregister(data); }

[[maybe_unused]] const bool prepared = [] {
  SetGuardedMemoryHooks({.mapped = Register,
                         .unmapping = Unregister,
                         .allocate = AllocateManaged,
                         .free = FreeManaged});
  // CUDA reads the variable at the first CUDA call.
  return setenv("CUDA_LAUNCH_BLOCKING", "1", 1) == 0;
}();

}  // namespace
}  // namespace strake::testing
