// Streams, events and captures of the emulated GPU: what is enqueued, and when it runs.
#ifndef STRAKE_CORE_TESTING_EMULATED_GPU_STREAMS_H_
#define STRAKE_CORE_TESTING_EMULATED_GPU_STREAMS_H_

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/cuda/cuda_runtime.h"
#include "core/cuda/stream.h"
#include "core/testing/emulated_gpu.h"
#include "core/testing/emulated_gpu_graphs.h"
#include "core/testing/emulated_gpu_memory.h"

namespace strake::testing {

struct EmulatedCapture;

// The point that an event recorded.
struct EmulatedPoint {
  CUstream_st* stream = nullptr;
  bool reached = false;
  std::chrono::steady_clock::time_point time;
  std::shared_ptr<EmulatedCapture> capture;  // null: none
  std::set<size_t> after;                    // nodes of the capture
};

// One item of a stream: it first waits, then runs, then the point is reached. Each part may be
// absent.
struct EmulatedItem {
  std::shared_ptr<EmulatedPoint> wait;
  EmulatedRun run;
  std::shared_ptr<EmulatedPoint> point;
};

// The work that becomes a graph.
struct EmulatedCapture {
  uint64_t number = 0;  // of this process, from 1
  std::vector<EmulatedNode> nodes;
  // The captured streams, and the nodes that the next node of each comes after.
  std::map<CUstream_st*, std::set<size_t>> streams;
  absl::Status error;  // the first error that ended it
};

}  // namespace strake::testing

struct CUstream_st {
  int device = 0;
  strake::CudaStreamPriority priority = strake::CudaStreamPriority::kNormal;
  bool destroyed = false;  // destroyed, but not empty yet
  std::deque<strake::testing::EmulatedItem> items;
  uint64_t num_enqueued = 0, num_done = 0;
  uint64_t num_calls = 0;                                     // that enqueued or captured something
  std::shared_ptr<strake::testing::EmulatedCapture> capture;  // null: none
};

namespace strake::testing {

struct EmulatedThread {
  int device = 0;
  std::shared_ptr<EmulatedCapture> capture;  // the capture by this thread; null: none
};
EmulatedThread& ThisEmulatedThread();

// In the form of core/cuda/cuda_error.h.
absl::Status EmulatedError(absl::string_view call, absl::string_view name, absl::string_view text,
                           const char* file = __builtin_FILE(), int line = __builtin_LINE());

inline constexpr int kAllDevices = -1;

// Reads the options from STRAKE_EMULATED_GPU.
EmulatedGpuOptions EmulatedGpuOptionsOfEnvironment();

// The process's GPUs. Functions that take a Lock are called with it held, and may release it while
// they wait for other threads.
class EmulatedGpu {
 public:
  using Lock = std::unique_lock<std::mutex>;

  static EmulatedGpu& Get();

  Lock Acquire() { return Lock(mutex_); }
  EmulatedGpuMemory& memory() { return memory_; }
  const EmulatedGpuOptions& options() const { return options_; }
  void set_options(const EmulatedGpuOptions& options);

  // The error of the first work that failed.
  const absl::Status& error() const { return error_; }
  void ForgetError() { error_ = absl::OkStatus(); }

  CUstream_st* NewStream(int device, CudaStreamPriority priority);
  void DestroyStream(CUstream_st* stream);
  std::vector<CUstream_st*> Streams(int device) const;
  // Null stands for the default stream of the device.
  CUstream_st& Stream(CudaStream stream, int device);

  void Enqueue(CUstream_st& stream, EmulatedItem item);
  // Enqueues the work, or captures it; null is the default stream of the thread's device.
  absl::Status Put(CudaStream stream, EmulatedRun run);

  // Runs the current contents of the stream, or of the streams of the device or of kAllDevices,
  // these in a random order. Returns error().
  absl::Status RunStream(Lock& lock, CUstream_st& stream);
  absl::Status RunDevice(Lock& lock, int device);
  // Runs everything that the point is behind.
  absl::Status RunUntil(Lock& lock, const std::shared_ptr<EmulatedPoint>& point);

  // Begins every call of the runtime: returns an error if there is no such GPU, or if work has
  // failed.
  absl::Status CheckUsable() const;
  // For a call that ends a capture by the calling thread.
  absl::Status CheckNotCapturing(absl::string_view call) const;
  // For a call, by any thread, that ends the capture of this stream.
  absl::Status CheckNotCaptured(absl::string_view call, const CUstream_st& stream) const;

 private:
  EmulatedGpu();

  // Runs items of the stream that `next` returns, until that is null.
  void RunAll(Lock& lock, const std::function<CUstream_st*()>& next);
  bool RunOne(CUstream_st& stream);
  bool RunOneOfOthers(const CUstream_st& stream);
  void Abandon();
  std::shared_ptr<CUstream_st> Share(const CUstream_st& stream) const;

  std::mutex mutex_;
  std::condition_variable changed_;  // something was enqueued or has run
  EmulatedGpuOptions options_;
  EmulatedGpuMemory memory_;
  std::vector<std::shared_ptr<CUstream_st>> streams_;
  std::map<int, CUstream_st*> default_streams_;  // by device
  std::mt19937_64 random_;
  absl::Status error_;
};

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_EMULATED_GPU_STREAMS_H_
