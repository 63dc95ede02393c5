// The emulated GPU of //core/testing:emulated_gpu: implements core/cuda/cuda_runtime.h on the CPU,
// as late and as strict as CUDA allows a GPU to be.
//
// Work enqueued on a stream runs only when the host waits for it, or for something behind it.
// Pinned memory is read and written at that time; memory that is not pinned, during the call. The
// host cannot touch device memory: an access ends the program with the address and its allocation.
// A fault of a kernel or copy is the error of every later call. Synchronizing, allocating, freeing,
// asking events and copying memory that is not pinned end a graph's capture. Each launch of a graph
// runs its nodes in another order that its edges allow. docs/cuda.md lists what the emulated GPU
// cannot show.
//
// To emulate another GPU, set any of these in the environment:
//   STRAKE_EMULATED_GPU=devices=2,memory_mib=64,driver=11040,architecture=75,seed=2
#ifndef STRAKE_CORE_TESTING_EMULATED_GPU_H_
#define STRAKE_CORE_TESTING_EMULATED_GPU_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "core/cuda/cuda_runtime.h"
#include "core/cuda/stream.h"
#include "core/testing/cuda_emulator.h"

namespace strake::testing {

struct EmulatedGpuOptions {
  int num_devices = 1;                    // 0: a driver, but no GPU
  size_t memory_bytes = size_t{1} << 30;  // of each GPU; all free at first
  int driver_version = 13000;             // as CUDA writes it; 0: no driver, 11040: too old
  int architecture = 90;                  // nothing was built for any other than 90
  uint64_t seed = 0;  // of the random orders, which it repeats; 0: the environment's, or 1
  // If set, nothing runs, device memory has no bytes and is copied as zeros, and this receives
  // every kernel's launch.
  std::function<void(const CudaLaunch&)> on_launch = nullptr;
};

// Sets the GPU's options in all threads during its lifetime; before and after, those of the
// environment hold. On destruction, all enqueued work has run, and its error is forgotten.
class ScopedEmulatedGpu {
 public:
  explicit ScopedEmulatedGpu(const EmulatedGpuOptions& options);
  ~ScopedEmulatedGpu();
  ScopedEmulatedGpu(const ScopedEmulatedGpu&) = delete;
  ScopedEmulatedGpu& operator=(const ScopedEmulatedGpu&) = delete;
};

// For libraries that the emulated GPU provides in place of CUDA's. Adds `work` to the stream like a
// kernel. If the stream is captured, `work` becomes part of the graph, which calls it at each
// launch. It may read and write device memory, must not enqueue anything, and runs on any thread,
// one at a time. An error is a kernel's fault, except Unavailable: "not yet", if it waits for
// another stream's work. It is then called again, after work of other streams.
absl::Status EnqueueOnEmulatedGpu(CudaStream stream, std::string name,
                                  std::function<absl::Status()> work);

// What such a library may ask.
int CurrentEmulatedDevice();  // of the calling thread
struct EmulatedStream {
  int device = 0;
  CudaStreamPriority priority = CudaStreamPriority::kNormal;
  uint64_t capture = 0;    // a number of its own for each capture; 0: none
  uint64_t num_calls = 0;  // of all that was enqueued or captured, events included
};
EmulatedStream DescribeEmulatedStream(CudaStream stream);
// The device whose memory holds all of the bytes, in one allocation; nullopt if none does.
std::optional<int> EmulatedDeviceOf(const void* data, size_t num_bytes);

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_EMULATED_GPU_H_
