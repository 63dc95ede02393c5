#include "core/cuda/cuda_runtime.h"

#include <cuda_runtime_api.h>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/cuda/cuda_architectures.h"
#include "core/cuda/cuda_error.h"
#include "core/cuda/cuda_messages.h"

namespace strake {
namespace {

absl::Status Copy(void* to, const void* from, size_t num_bytes, cudaMemcpyKind kind,
                  CudaStream stream) {
  if (num_bytes == 0) return absl::OkStatus();
  STRAKE_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(to, from, num_bytes, kind, stream));
  return absl::OkStatus();
}

absl::Status CheckDevice(int device) {
  STRAKE_ASSIGN_OR_RETURN(const int num_devices, CudaDeviceCount());
  if (device >= 0 && device < num_devices) return absl::OkStatus();
  return NoSuchCudaDevice(device, num_devices);
}

absl::Status OutOfMemory(size_t wanted_bytes) {
  (void)cudaGetLastError();
  int device = 0;
  size_t free_bytes = 0, total_bytes = 0;
  STRAKE_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device));
  STRAKE_RETURN_IF_CUDA_ERROR(cudaMemGetInfo(&free_bytes, &total_bytes));
  return NotEnoughCudaMemory(device, wanted_bytes, free_bytes, total_bytes);
}

}  // namespace

absl::StatusOr<int> CudaDeviceCount() {
  int num_devices = 0;
  STRAKE_RETURN_IF_CUDA_ERROR(cudaGetDeviceCount(&num_devices));
  return num_devices;
}

absl::StatusOr<CudaDevice> DescribeCudaDevice(int device) {
  STRAKE_RETURN_IF_ERROR(CheckDevice(device));
  cudaDeviceProp properties;
  STRAKE_RETURN_IF_CUDA_ERROR(cudaGetDeviceProperties(&properties, device));
  CudaDevice described{.name = properties.name,
                       .major = properties.major,
                       .minor = properties.minor,
                       .num_multiprocessors = properties.multiProcessorCount};
  int current = 0;
  STRAKE_RETURN_IF_CUDA_ERROR(cudaGetDevice(&current));
  STRAKE_RETURN_IF_CUDA_ERROR(cudaSetDevice(device));
  const cudaError_t error = cudaMemGetInfo(&described.free_bytes, &described.total_bytes);
  STRAKE_RETURN_IF_CUDA_ERROR(cudaSetDevice(current));
  STRAKE_RETURN_IF_CUDA_ERROR(error);
  return described;
}

absl::Status SetCudaDevice(int device) {
  STRAKE_RETURN_IF_ERROR(CheckDevice(device));
  STRAKE_RETURN_IF_CUDA_ERROR(cudaSetDevice(device));
  const cudaError_t error = LoadCudaProbe();
  if (error != cudaErrorNoKernelImageForDevice) {
    STRAKE_RETURN_IF_CUDA_ERROR(error);
    return absl::OkStatus();
  }
  (void)cudaGetLastError();
  cudaDeviceProp properties;
  STRAKE_RETURN_IF_CUDA_ERROR(cudaGetDeviceProperties(&properties, device));
  return CudaArchitectureNotBuilt(device, properties.name, properties.major, properties.minor,
                                  BuiltCudaArchitectures());
}

absl::StatusOr<CudaMemory> CudaMemory::Allocate(size_t num_bytes) {
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, num_bytes);
  if (error == cudaErrorMemoryAllocation) return OutOfMemory(num_bytes);
  STRAKE_RETURN_IF_CUDA_ERROR(error);
  CudaMemory memory;
  memory.data_.reset(data);
  memory.num_bytes_ = num_bytes;
  return memory;
}

// When the process ends, the runtime may already be gone, so a failure is ignored.
void CudaMemory::Free::operator()(void* data) const { (void)cudaFree(data); }

absl::StatusOr<PinnedMemory> PinnedMemory::Allocate(size_t num_bytes) {
  void* data = nullptr;
  const cudaError_t error = cudaHostAlloc(&data, num_bytes, cudaHostAllocPortable);
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot allocate ", num_bytes, " bytes of pinned host memory"));
  }
  STRAKE_RETURN_IF_CUDA_ERROR(error);
  PinnedMemory memory;
  memory.data_.reset(data);
  memory.num_bytes_ = num_bytes;
  return memory;
}

void PinnedMemory::Free::operator()(void* data) const { (void)cudaFreeHost(data); }

absl::Status CopyToDevice(void* device_to, const void* host_from, size_t num_bytes,
                          CudaStream stream) {
  return Copy(device_to, host_from, num_bytes, cudaMemcpyHostToDevice, stream);
}

absl::Status CopyToHost(void* host_to, const void* device_from, size_t num_bytes,
                        CudaStream stream) {
  return Copy(host_to, device_from, num_bytes, cudaMemcpyDeviceToHost, stream);
}

absl::Status CopyOnDevice(void* to, const void* from, size_t num_bytes, CudaStream stream) {
  return Copy(to, from, num_bytes, cudaMemcpyDeviceToDevice, stream);
}

absl::Status CopyRowsOnDevice(void* to, size_t to_stride_bytes, const void* from,
                              size_t from_stride_bytes, size_t row_bytes, size_t num_rows,
                              CudaStream stream) {
  if (row_bytes == 0 || num_rows == 0) return absl::OkStatus();
  STRAKE_RETURN_IF_CUDA_ERROR(cudaMemcpy2DAsync(to, to_stride_bytes, from, from_stride_bytes,
                                                row_bytes, num_rows, cudaMemcpyDeviceToDevice,
                                                stream));
  return absl::OkStatus();
}

absl::Status SetBytesOnDevice(void* data, int byte, size_t num_bytes, CudaStream stream) {
  if (num_bytes == 0) return absl::OkStatus();
  STRAKE_RETURN_IF_CUDA_ERROR(cudaMemsetAsync(data, byte, num_bytes, stream));
  return absl::OkStatus();
}

absl::Status SynchronizeCudaStream(CudaStream stream) {
  STRAKE_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream));
  return absl::OkStatus();
}

absl::Status SynchronizeCudaDevice() {
  STRAKE_RETURN_IF_CUDA_ERROR(cudaDeviceSynchronize());
  return absl::OkStatus();
}

absl::Status LastCudaError() {
  STRAKE_RETURN_IF_CUDA_ERROR(cudaGetLastError());
  return absl::OkStatus();
}

absl::StatusOr<CudaOwnStream> CudaOwnStream::Create(CudaStreamPriority priority) {
  int lowest = 0, highest = 0;
  STRAKE_RETURN_IF_CUDA_ERROR(cudaDeviceGetStreamPriorityRange(&lowest, &highest));
  CudaStream stream = nullptr;
  STRAKE_RETURN_IF_CUDA_ERROR(cudaStreamCreateWithPriority(
      &stream, cudaStreamNonBlocking, priority == CudaStreamPriority::kHigh ? highest : lowest));
  CudaOwnStream owner;
  owner.stream_.reset(stream);
  return owner;
}

void CudaOwnStream::Destroy::operator()(CudaStream stream) const {
  (void)cudaStreamDestroy(stream);
}

absl::StatusOr<CudaEvent> CudaEvent::Create(CudaEventKind kind) {
  CUevent_st* event = nullptr;
  STRAKE_RETURN_IF_CUDA_ERROR(cudaEventCreateWithFlags(
      &event, kind == CudaEventKind::kTiming ? cudaEventDefault : cudaEventDisableTiming));
  CudaEvent owner;
  owner.event_.reset(event);
  return owner;
}

void CudaEvent::Destroy::operator()(CUevent_st* event) const { (void)cudaEventDestroy(event); }

absl::Status CudaEvent::Record(CudaStream stream) {
  STRAKE_RETURN_IF_CUDA_ERROR(cudaEventRecord(event_.get(), stream));
  return absl::OkStatus();
}

absl::Status CudaEvent::MakeWait(CudaStream stream) const {
  STRAKE_RETURN_IF_CUDA_ERROR(cudaStreamWaitEvent(stream, event_.get(), 0));
  return absl::OkStatus();
}

absl::Status CudaEvent::Synchronize() const {
  STRAKE_RETURN_IF_CUDA_ERROR(cudaEventSynchronize(event_.get()));
  return absl::OkStatus();
}

absl::StatusOr<bool> CudaEvent::Done() const {
  const cudaError_t error = cudaEventQuery(event_.get());
  if (error == cudaErrorNotReady) return false;
  STRAKE_RETURN_IF_CUDA_ERROR(error);
  return true;
}

absl::StatusOr<double> CudaEvent::SecondsSince(const CudaEvent& start) const {
  float milliseconds = 0;
  STRAKE_RETURN_IF_CUDA_ERROR(
      cudaEventElapsedTime(&milliseconds, start.event_.get(), event_.get()));
  return milliseconds * 1e-3;
}

absl::StatusOr<CudaGraph> CudaGraph::Capture(CudaStream stream,
                                             absl::FunctionRef<absl::Status()> enqueue) {
  // Captures only this thread's calls, because other ranks' threads continue.
  STRAKE_RETURN_IF_CUDA_ERROR(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  const absl::Status status = enqueue();
  cudaGraph_t recorded = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream, &recorded);
  if (!status.ok()) {
    (void)cudaGetLastError();
    if (recorded != nullptr) (void)cudaGraphDestroy(recorded);
    return status;
  }
  STRAKE_RETURN_IF_CUDA_ERROR(ended);
  cudaGraphExec_t executable = nullptr;
  // Otherwise all nodes would get the priority of the stream that the graph is launched on.
  const cudaError_t made =
      cudaGraphInstantiate(&executable, recorded, cudaGraphInstantiateFlagUseNodePriority);
  (void)cudaGraphDestroy(recorded);
  STRAKE_RETURN_IF_CUDA_ERROR(made);
  CudaGraph graph;
  graph.graph_.reset(executable);
  return graph;
}

absl::Status CudaGraph::Launch(CudaStream stream) const {
  STRAKE_RETURN_IF_CUDA_ERROR(cudaGraphLaunch(graph_.get(), stream));
  return absl::OkStatus();
}

void CudaGraph::Destroy::operator()(CUgraphExec_st* graph) const {
  (void)cudaGraphExecDestroy(graph);
}

}  // namespace strake
