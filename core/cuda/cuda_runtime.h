// The CUDA runtime without its headers: devices, memory, copies, streams and events.
//
// Every thread has a current device, 0 until it calls SetCudaDevice(). Memory, streams and events
// belong to the device that was current when they were created. Errors name the call, CUDA's text,
// file and line; if there is no usable GPU, they are the sentences of core/cuda/cuda_messages.h. A
// kernel or copy that fails is reported by a later call, and from then on by every call of the
// process. In a build without CUDA every call returns core/cuda/no_cuda.h's error.
#ifndef STRAKE_CORE_CUDA_CUDA_RUNTIME_H_
#define STRAKE_CORE_CUDA_CUDA_RUNTIME_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/cuda/stream.h"

struct CUevent_st;
struct CUgraphExec_st;

namespace strake {

// Returns the number of GPUs, which is never 0: if there is no GPU, returns an error.
absl::StatusOr<int> CudaDeviceCount();

struct CudaDevice {
  std::string name;          // "NVIDIA H200"
  int major = 0, minor = 0;  // of its architecture: 9, 0 for sm_90
  int num_multiprocessors = 0;
  size_t free_bytes = 0, total_bytes = 0;
};
absl::StatusOr<CudaDevice> DescribeCudaDevice(int device);

// Makes it the calling thread's current device. Fails if the device does not exist, or if this
// binary was not built for its architecture.
absl::Status SetCudaDevice(int device);

// Memory of the current device, 256-byte aligned, not cleared, freed on destruction.
class CudaMemory {
 public:
  CudaMemory() = default;
  // Returns ResourceExhausted, with the wanted and the free bytes, if there is not enough memory.
  static absl::StatusOr<CudaMemory> Allocate(size_t num_bytes);

  void* data() const { return data_.get(); }
  size_t num_bytes() const { return num_bytes_; }

 private:
  struct Free {
    void operator()(void* data) const;
  };
  std::unique_ptr<void, Free> data_;
  size_t num_bytes_ = 0;
};

// Page-locked host memory; copies on a stream are only asynchronous with it. Not cleared.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  // Returns ResourceExhausted if the system has no such memory, or does not allow it to be locked.
  static absl::StatusOr<PinnedMemory> Allocate(size_t num_bytes);

  void* data() const { return data_.get(); }
  size_t num_bytes() const { return num_bytes_; }

 private:
  struct Free {
    void operator()(void* data) const;
  };
  std::unique_ptr<void, Free> data_;
  size_t num_bytes_ = 0;
};

// Enqueues the copy on `stream`. If host memory is not pinned, the call waits for the copy.
absl::Status CopyToDevice(void* device_to, const void* host_from, size_t num_bytes,
                          CudaStream stream);
absl::Status CopyToHost(void* host_to, const void* device_from, size_t num_bytes,
                        CudaStream stream);
absl::Status CopyOnDevice(void* to, const void* from, size_t num_bytes, CudaStream stream);
// Copies `num_rows` rows of `row_bytes`. Rows begin one stride apart, which is at least
// `row_bytes`.
absl::Status CopyRowsOnDevice(void* to, size_t to_stride_bytes, const void* from,
                              size_t from_stride_bytes, size_t row_bytes, size_t num_rows,
                              CudaStream stream);
// Sets every byte to `byte`.
absl::Status SetBytesOnDevice(void* data, int byte, size_t num_bytes, CudaStream stream);

// Waits for all work enqueued on the stream, and returns its error, if any.
absl::Status SynchronizeCudaStream(CudaStream stream);
// The same for all streams of the current device.
absl::Status SynchronizeCudaDevice();

// Returns the error of a call or kernel that has not been reported yet.
absl::Status LastCudaError();

// Which blocks a GPU starts first, where several streams have some: those of kHigh. For kernels
// that others wait for, such as communication. Kernels keep it in a graph.
enum class CudaStreamPriority { kNormal, kHigh };

// An owned stream, which does not synchronize with the default stream. It is destroyed with this
// object; work enqueued on it still runs.
class CudaOwnStream {
 public:
  static absl::StatusOr<CudaOwnStream> Create(
      CudaStreamPriority priority = CudaStreamPriority::kNormal);
  CudaStream get() const { return stream_.get(); }

 private:
  struct Destroy {
    void operator()(CudaStream stream) const;
  };
  std::unique_ptr<CUstream_st, Destroy> stream_;
};

// Says whether an event has a time. One that only orders costs its stream less.
enum class CudaEventKind { kOrder, kTiming };

// A point in a stream.
class CudaEvent {
 public:
  static absl::StatusOr<CudaEvent> Create(CudaEventKind kind = CudaEventKind::kOrder);

  // Marks the point after all work that is on the stream now.
  absl::Status Record(CudaStream stream);
  // Makes work enqueued on the stream from now on wait for the point. The host does not wait.
  absl::Status MakeWait(CudaStream stream) const;
  // Makes the host wait for the point.
  absl::Status Synchronize() const;
  // Returns whether the point has been reached.
  absl::StatusOr<bool> Done() const;
  // Time on the device from `start` to this event; both are kTiming and have been reached.
  absl::StatusOr<double> SecondsSince(const CudaEvent& start) const;

 private:
  struct Destroy {
    void operator()(CUevent_st* event) const;
  };
  std::unique_ptr<CUevent_st, Destroy> event_;
};

// Work recorded from a stream, and from streams that wait for it by events, that can be enqueued
// again at the cost of one launch. It holds kernels and copies with the addresses and values of the
// recording.
class CudaGraph {
 public:
  // Calls `enqueue` once; nothing that it enqueues runs. Before it returns, it must make `stream`
  // wait for every other stream that it used. It must not synchronize, allocate or free.
  static absl::StatusOr<CudaGraph> Capture(CudaStream stream,
                                           absl::FunctionRef<absl::Status()> enqueue);

  absl::Status Launch(CudaStream stream) const;

 private:
  struct Destroy {
    void operator()(CUgraphExec_st* graph) const;
  };
  std::unique_ptr<CUgraphExec_st, Destroy> graph_;
};

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_CUDA_RUNTIME_H_
