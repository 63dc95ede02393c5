// core/cuda/cuda_runtime.h on the CPU, for the emulated GPU: every call is done when it returns.
#include <cstring>
#include <map>
#include <mutex>

#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "core/testing/emulated_gpu.h"
#include "core/testing/guarded_buffer.h"

namespace strake {
namespace {

// What is allocated, by its address.
struct Memories {
  std::mutex mutex;
  std::map<void*, std::unique_ptr<testing::GuardedMemory>> all;

  static Memories& Get() {
    static Memories* const memories = new Memories();
    return *memories;
  }
};

void* Allocate(size_t num_bytes) {
  Memories& memories = Memories::Get();
  auto memory = std::make_unique<testing::GuardedMemory>("device memory", num_bytes,
                                                         testing::GuardAt::kStart);
  void* const data = memory->data();
  const std::lock_guard<std::mutex> lock(memories.mutex);
  memories.all[data] = std::move(memory);
  return data;
}

void Release(void* data) {
  Memories& memories = Memories::Get();
  const std::lock_guard<std::mutex> lock(memories.mutex);
  memories.all.erase(data);
}

absl::Status CopyBytes(void* to, const void* from, size_t num_bytes) {
  if (num_bytes > 0) std::memcpy(to, from, num_bytes);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<int> CudaDeviceCount() { return 1; }
absl::StatusOr<CudaDevice> DescribeCudaDevice(int) {
  return CudaDevice{.name = "emulated GPU",
                    .major = 9,
                    .num_multiprocessors = 4,
                    .free_bytes = size_t{1} << 30,
                    .total_bytes = size_t{1} << 30};
}
absl::Status SetCudaDevice(int) { return absl::OkStatus(); }

absl::StatusOr<CudaMemory> CudaMemory::Allocate(size_t num_bytes) {
  CudaMemory memory;
  memory.data_.reset(strake::Allocate(num_bytes));
  memory.num_bytes_ = num_bytes;
  return memory;
}
void CudaMemory::Free::operator()(void* data) const { Release(data); }

absl::StatusOr<PinnedMemory> PinnedMemory::Allocate(size_t num_bytes) {
  PinnedMemory memory;
  memory.data_.reset(strake::Allocate(num_bytes));
  memory.num_bytes_ = num_bytes;
  return memory;
}
void PinnedMemory::Free::operator()(void* data) const { Release(data); }

absl::Status CopyToDevice(void* to, const void* from, size_t num_bytes, CudaStream) {
  return CopyBytes(to, from, num_bytes);
}
absl::Status CopyToHost(void* to, const void* from, size_t num_bytes, CudaStream) {
  return CopyBytes(to, from, num_bytes);
}
absl::Status CopyOnDevice(void* to, const void* from, size_t num_bytes, CudaStream) {
  return CopyBytes(to, from, num_bytes);
}
absl::Status CopyRowsOnDevice(void* to, size_t to_stride_bytes, const void* from,
                              size_t from_stride_bytes, size_t row_bytes, size_t num_rows,
                              CudaStream stream) {
  for (size_t row = 0; row < num_rows; ++row) {
    STRAKE_RETURN_IF_ERROR(CopyOnDevice(static_cast<char*>(to) + row * to_stride_bytes,
                                        static_cast<const char*>(from) + row * from_stride_bytes,
                                        row_bytes, stream));
  }
  return absl::OkStatus();
}
absl::Status SetBytesOnDevice(void* data, int byte, size_t num_bytes, CudaStream) {
  if (num_bytes > 0) std::memset(data, byte, num_bytes);
  return absl::OkStatus();
}

absl::Status SynchronizeCudaStream(CudaStream) { return absl::OkStatus(); }
absl::Status SynchronizeCudaDevice() { return absl::OkStatus(); }
absl::Status LastCudaError() { return absl::OkStatus(); }

absl::StatusOr<CudaOwnStream> CudaOwnStream::Create() { return CudaOwnStream(); }
void CudaOwnStream::Destroy::operator()(CudaStream) const {}
absl::StatusOr<CudaEvent> CudaEvent::Create() { return CudaEvent(); }
void CudaEvent::Destroy::operator()(CUevent_st*) const {}
absl::Status CudaEvent::Record(CudaStream) { return absl::OkStatus(); }
absl::Status CudaEvent::MakeWait(CudaStream) const { return absl::OkStatus(); }
absl::Status CudaEvent::Synchronize() const { return absl::OkStatus(); }
absl::StatusOr<bool> CudaEvent::Done() const { return true; }
absl::StatusOr<double> CudaEvent::SecondsSince(const CudaEvent&) const { return 0; }

absl::StatusOr<CudaGraph> CudaGraph::Capture(CudaStream, absl::FunctionRef<absl::Status()>) {
  return absl::UnimplementedError("the emulated GPU captures no graphs");
}
absl::Status CudaGraph::Launch(CudaStream) const { return absl::OkStatus(); }
void CudaGraph::Destroy::operator()(CUgraphExec_st*) const {}

}  // namespace strake

namespace strake::testing {

absl::Status EnqueueOnEmulatedGpu(CudaStream, std::string, std::function<absl::Status()> work) {
  return work();
}

}  // namespace strake::testing
