// The emulated GPU of //core/testing:emulated_gpu: core/cuda/cuda_runtime.h in front of the CPU, as
// late and as strict as CUDA lets a GPU be.
//
// What is enqueued on a stream runs when the host waits for it, or for something behind it, and not
// before. Pinned memory is read and written then; memory that is not pinned, in the call. The host
// cannot touch device memory: an access ends the program with the address and its allocation. A
// fault of a kernel or copy is the error of every call from then on. Synchronizing, allocating,
// freeing, asking events and copies of memory that is not pinned end a graph's capture.
// docs/cuda.md says what this cannot show.
//
// Programs are told of another GPU by the environment, with any of
//   STRAKE_EMULATED_GPU=devices=2,memory_mib=64,driver=11040,architecture=75
#ifndef STRAKE_CORE_TESTING_EMULATED_GPU_H_
#define STRAKE_CORE_TESTING_EMULATED_GPU_H_

#include <cstddef>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "core/cuda/stream.h"

namespace strake::testing {

struct EmulatedGpuOptions {
  int num_devices = 1;                    // 0: a driver, and no GPU
  size_t memory_bytes = size_t{1} << 30;  // of each; all free at first
  int driver_version = 13000;             // as CUDA writes it; 0: no driver, 11040: too old
  int architecture = 90;                  // another than 90 is one that nothing was built for
};

// What the GPU is while this lives, in all threads; before and after, it is what the environment
// says. When this goes, all that is enqueued has run, and an error of it is forgotten.
class ScopedEmulatedGpu {
 public:
  explicit ScopedEmulatedGpu(const EmulatedGpuOptions& options);
  ~ScopedEmulatedGpu();
  ScopedEmulatedGpu(const ScopedEmulatedGpu&) = delete;
  ScopedEmulatedGpu& operator=(const ScopedEmulatedGpu&) = delete;
};

// For libraries that the emulated GPU has in the place of CUDA's: `work` becomes part of the stream
// like a kernel, and of a graph where the stream is captured, which calls it at each launch. It may
// read and write device memory, enqueues nothing, and runs on any thread, one at a time. An error
// is a kernel's fault, but for Unavailable: "not yet", for what waits for another stream's work.
// It is then called again, after work of other streams.
absl::Status EnqueueOnEmulatedGpu(CudaStream stream, std::string name,
                                  std::function<absl::Status()> work);

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_EMULATED_GPU_H_
