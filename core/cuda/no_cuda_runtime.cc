// cuda_runtime.h in a build without CUDA.
#include "core/cuda/cuda_runtime.h"
#include "core/cuda/no_cuda.h"

namespace strake {

absl::StatusOr<int> CudaDeviceCount() { return NoCuda(); }
absl::StatusOr<CudaDevice> DescribeCudaDevice(int) { return NoCuda(); }
absl::Status SetCudaDevice(int) { return NoCuda(); }

absl::StatusOr<CudaMemory> CudaMemory::Allocate(size_t) { return NoCuda(); }
void CudaMemory::Free::operator()(void*) const {}
absl::StatusOr<PinnedMemory> PinnedMemory::Allocate(size_t) { return NoCuda(); }
void PinnedMemory::Free::operator()(void*) const {}

absl::Status CopyToDevice(void*, const void*, size_t, CudaStream) { return NoCuda(); }
absl::Status CopyToHost(void*, const void*, size_t, CudaStream) { return NoCuda(); }
absl::Status CopyOnDevice(void*, const void*, size_t, CudaStream) { return NoCuda(); }
absl::Status CopyRowsOnDevice(void*, size_t, const void*, size_t, size_t, size_t, CudaStream) {
  return NoCuda();
}
absl::Status SetBytesOnDevice(void*, int, size_t, CudaStream) { return NoCuda(); }
absl::Status SynchronizeCudaStream(CudaStream) { return NoCuda(); }
absl::Status SynchronizeCudaDevice() { return NoCuda(); }
absl::Status LastCudaError() { return NoCuda(); }

absl::StatusOr<CudaOwnStream> CudaOwnStream::Create(CudaStreamPriority) { return NoCuda(); }
void CudaOwnStream::Destroy::operator()(CudaStream) const {}
absl::StatusOr<CudaEvent> CudaEvent::Create(CudaEventKind) { return NoCuda(); }
void CudaEvent::Destroy::operator()(CUevent_st*) const {}
absl::Status CudaEvent::Record(CudaStream) { return NoCuda(); }
absl::Status CudaEvent::MakeWait(CudaStream) const { return NoCuda(); }
absl::Status CudaEvent::Synchronize() const { return NoCuda(); }
absl::StatusOr<bool> CudaEvent::Done() const { return NoCuda(); }
absl::StatusOr<double> CudaEvent::SecondsSince(const CudaEvent&) const { return NoCuda(); }

absl::StatusOr<CudaGraph> CudaGraph::Capture(CudaStream, absl::FunctionRef<absl::Status()>) {
  return NoCuda();
}
absl::Status CudaGraph::Launch(CudaStream) const { return NoCuda(); }
void CudaGraph::Destroy::operator()(CUgraphExec_st*) const {}

}  // namespace strake
