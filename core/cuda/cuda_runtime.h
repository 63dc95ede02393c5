// The CUDA runtime without its headers: devices, memory, copies, streams and events.
//
// Every thread has a current device, 0 until it calls SetCudaDevice(); memory, streams and events
// belong to the device that was current at their creation. Errors name the call, CUDA's text, file
// and line; where there is no usable GPU, they are the sentences of core/cuda/cuda_messages.h. A
// kernel or copy that fails reports at a later call, and from then on every call of the process
// does. A build without CUDA answers everything with core/cuda/no_cuda.h's error.
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

// Never 0: where there is no GPU, that is the error.
absl::StatusOr<int> CudaDeviceCount();

struct CudaDevice {
  std::string name;          // "NVIDIA H200"
  int major = 0, minor = 0;  // of its architecture: 9, 0 for sm_90
  int num_multiprocessors = 0;
  size_t free_bytes = 0, total_bytes = 0;
};
absl::StatusOr<CudaDevice> DescribeCudaDevice(int device);

// Makes it the calling thread's. Fails when it does not exist, or when it is of an architecture
// that this binary was not built for.
absl::Status SetCudaDevice(int device);

// Memory of the current device, 256-byte aligned, not cleared, freed on destruction.
class CudaMemory {
 public:
  CudaMemory() = default;
  // ResourceExhausted, with what is wanted and what is free, when there is not so much.
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

// Page-locked host memory, which copies on a stream need to be asynchronous. Not cleared.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  // ResourceExhausted when the system has no such memory, or lets nobody lock it.
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

// Enqueued on `stream`. Host memory that is not pinned makes the call wait.
absl::Status CopyToDevice(void* device_to, const void* host_from, size_t num_bytes,
                          CudaStream stream);
absl::Status CopyToHost(void* host_to, const void* device_from, size_t num_bytes,
                        CudaStream stream);
absl::Status CopyOnDevice(void* to, const void* from, size_t num_bytes, CudaStream stream);
// `num_rows` rows of `row_bytes`, which begin a stride apart that is at least as much.
absl::Status CopyRowsOnDevice(void* to, size_t to_stride_bytes, const void* from,
                              size_t from_stride_bytes, size_t row_bytes, size_t num_rows,
                              CudaStream stream);
// Every byte becomes `byte`.
absl::Status SetBytesOnDevice(void* data, int byte, size_t num_bytes, CudaStream stream);

// Waits for all that was enqueued on the stream, and returns the error of any of it.
absl::Status SynchronizeCudaStream(CudaStream stream);
// The same for all streams of the current device.
absl::Status SynchronizeCudaDevice();

// The error of a call or kernel that nobody has asked for yet.
absl::Status LastCudaError();

// A stream of its own, which does not wait for the default stream. Destroyed with this; what is
// enqueued on it still runs.
class CudaOwnStream {
 public:
  static absl::StatusOr<CudaOwnStream> Create();
  CudaStream get() const { return stream_.get(); }

 private:
  struct Destroy {
    void operator()(CudaStream stream) const;
  };
  std::unique_ptr<CUstream_st, Destroy> stream_;
};

// A point in a stream.
class CudaEvent {
 public:
  static absl::StatusOr<CudaEvent> Create();

  // The point behind all that is on the stream now.
  absl::Status Record(CudaStream stream);
  // What is enqueued on the stream from now on waits for the point. The host does not.
  absl::Status MakeWait(CudaStream stream) const;
  // The host waits for it.
  absl::Status Synchronize() const;
  // Whether it has been reached.
  absl::StatusOr<bool> Done() const;
  // Time on the device from `start` to this; both must have been reached.
  absl::StatusOr<double> SecondsSince(const CudaEvent& start) const;

 private:
  struct Destroy {
    void operator()(CUevent_st* event) const;
  };
  std::unique_ptr<CUevent_st, Destroy> event_;
};

// What a function enqueues on a stream, and on streams that wait for it by events, recorded to be
// enqueued again at the cost of one launch: kernels and copies with the addresses and values of the
// recording.
class CudaGraph {
 public:
  // `enqueue` is called once; nothing that it enqueues runs. By its end, `stream` waits for every
  // other stream that it used. It may not synchronize, allocate or free.
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
