// Linked into a test of kernels that was written for the emulator, makes its buffers ones that a
// GPU reads and writes at the same addresses, and a kernel's end the end of its launch.
//
// The buffers stay in host memory: an access past their end faults here too, and this says nothing
// about speed.
#include <cuda_runtime_api.h>

#include <cstdlib>

#include "absl/status/status.h"
#include "core/cuda/cuda_error.h"
#include "core/testing/guarded_buffer.h"
#include "glog/logging.h"

namespace strake::testing {
namespace {

absl::Status Register(void* data, size_t num_bytes) {
  STRAKE_RETURN_IF_CUDA_ERROR(cudaHostRegister(data, num_bytes, cudaHostRegisterPortable));
  return absl::OkStatus();
}

// A kernel that failed leaves nothing that works: its own error has been reported.
void Unregister(void* data) { (void)cudaHostUnregister(data); }

[[maybe_unused]] const bool prepared = [] {
  SetGuardedMemoryHooks({[](void* data, size_t num_bytes) {
                           const absl::Status status = Register(data, num_bytes);
                           CHECK(status.ok()) << status;
                         },
                         Unregister});
  // Read when the first CUDA call is made.
  return setenv("CUDA_LAUNCH_BLOCKING", "1", 1) == 0;
}();

}  // namespace
}  // namespace strake::testing
