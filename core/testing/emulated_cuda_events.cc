// core/cuda/cuda_runtime.h for the emulated GPU: events and graphs.
#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "core/testing/emulated_gpu_streams.h"

using strake::testing::EmulatedPoint;
using strake::testing::EmulatedRun;

struct CUevent_st {
  std::shared_ptr<EmulatedPoint> point;  // null: never recorded
};

struct CUgraphExec_st {
  std::shared_ptr<const std::vector<EmulatedRun>> runs;
};

namespace strake {
namespace {

using testing::EmulatedCapture;
using testing::EmulatedError;
using testing::EmulatedGpu;
using testing::EmulatedOrder;
using testing::ThisEmulatedThread;

absl::Status CheckNotCaptured(const char* call, const EmulatedPoint& point) {
  if (point.capture == nullptr) return absl::OkStatus();
  return EmulatedError(call, "cudaErrorCapturedEvent",
                       "operation not permitted on an event last recorded in a capturing stream");
}

void Merge(const EmulatedOrder& from, EmulatedOrder& to) {
  for (const auto& [stream, num_items] : from) to[stream] = std::max(to[stream], num_items);
}

// Adds the stream to the point's capture, if it is not part of it.
absl::Status Join(const EmulatedPoint& point, CUstream_st& stream) {
  if (stream.capture != nullptr && stream.capture != point.capture) {
    return EmulatedError("cudaStreamWaitEvent(stream, event, 0)", "cudaErrorStreamCaptureIsolation",
                         "dependency created on uncaptured work in another stream");
  }
  stream.capture = point.capture;
  Merge(point.behind, point.capture->streams[&stream]);
  return absl::OkStatus();
}

// Returns an error unless `origin` waits for everything that is captured.
absl::Status CheckJoined(const EmulatedCapture& capture, CUstream_st* origin) {
  const EmulatedOrder& joined = capture.streams.at(origin);
  for (const auto& [stream, behind] : capture.streams) {
    const auto items = behind.find(stream), waited = joined.find(stream);
    if (items == behind.end()) continue;
    if (waited != joined.end() && waited->second == items->second) continue;
    return EmulatedError("cudaStreamEndCapture(stream, &recorded)",
                         "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CudaEvent> CudaEvent::Create() {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  STRAKE_RETURN_IF_ERROR(gpu.CheckUsable());
  CudaEvent owner;
  owner.event_.reset(new CUevent_st());
  return owner;
}

void CudaEvent::Destroy::operator()(CUevent_st* event) const { delete event; }

absl::Status CudaEvent::Record(CudaStream stream) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  STRAKE_RETURN_IF_ERROR(gpu.CheckUsable());
  CUstream_st& recorded = gpu.Stream(stream, ThisEmulatedThread().device);
  event_->point = std::make_shared<EmulatedPoint>();
  event_->point->stream = &recorded;
  event_->point->capture = recorded.capture;
  if (recorded.capture == nullptr) {
    gpu.Enqueue(recorded, {.wait = nullptr, .run = nullptr, .point = event_->point});
  } else {
    event_->point->behind = recorded.capture->streams[&recorded];
  }
  return absl::OkStatus();
}

absl::Status CudaEvent::MakeWait(CudaStream stream) const {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  STRAKE_RETURN_IF_ERROR(gpu.CheckUsable());
  if (event_->point == nullptr) return absl::OkStatus();
  CUstream_st& waiting = gpu.Stream(stream, ThisEmulatedThread().device);
  if (event_->point->capture != nullptr || waiting.capture != nullptr) {
    return Join(*event_->point, waiting);
  }
  gpu.Enqueue(waiting, {.wait = event_->point, .run = nullptr, .point = nullptr});
  return absl::OkStatus();
}

absl::Status CudaEvent::Synchronize() const {
  constexpr char kCall[] = "cudaEventSynchronize(event)";
  EmulatedGpu& gpu = EmulatedGpu::Get();
  EmulatedGpu::Lock lock = gpu.Acquire();
  STRAKE_RETURN_IF_ERROR(gpu.CheckUsable());
  STRAKE_RETURN_IF_ERROR(gpu.CheckNotCapturing(kCall));
  const std::shared_ptr<EmulatedPoint> point = event_->point;
  if (point == nullptr) return absl::OkStatus();
  STRAKE_RETURN_IF_ERROR(CheckNotCaptured(kCall, *point));
  return gpu.RunUntil(lock, point);
}

// Behaves as if the GPU got there right after the first call.
absl::StatusOr<bool> CudaEvent::Done() const {
  constexpr char kCall[] = "cudaEventQuery(event)";
  EmulatedGpu& gpu = EmulatedGpu::Get();
  EmulatedGpu::Lock lock = gpu.Acquire();
  STRAKE_RETURN_IF_ERROR(gpu.CheckUsable());
  STRAKE_RETURN_IF_ERROR(gpu.CheckNotCapturing(kCall));
  const std::shared_ptr<EmulatedPoint> point = event_->point;
  if (point == nullptr) return true;
  STRAKE_RETURN_IF_ERROR(CheckNotCaptured(kCall, *point));
  const bool reached = point->reached;
  STRAKE_RETURN_IF_ERROR(gpu.RunUntil(lock, point));
  return reached;
}

absl::StatusOr<double> CudaEvent::SecondsSince(const CudaEvent& start) const {
  constexpr char kCall[] = "cudaEventElapsedTime(&milliseconds, start, end)";
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  STRAKE_RETURN_IF_ERROR(gpu.CheckUsable());
  const EmulatedPoint *const first = start.event_->point.get(), *const last = event_->point.get();
  if (first == nullptr || last == nullptr) {
    return EmulatedError(kCall, "cudaErrorInvalidResourceHandle", "invalid resource handle");
  }
  STRAKE_RETURN_IF_ERROR(CheckNotCaptured(kCall, *first));
  STRAKE_RETURN_IF_ERROR(CheckNotCaptured(kCall, *last));
  if (!first->reached || !last->reached) {
    return EmulatedError(kCall, "cudaErrorNotReady", "device not ready");
  }
  // The resolution of CUDA's events is half a microsecond.
  return std::max(std::chrono::duration<double>(last->time - first->time).count(), 0.5e-6);
}

absl::StatusOr<CudaGraph> CudaGraph::Capture(CudaStream stream,
                                             absl::FunctionRef<absl::Status()> enqueue) {
  constexpr char kBegin[] = "cudaStreamBeginCapture(stream, mode)";
  EmulatedGpu& gpu = EmulatedGpu::Get();
  EmulatedGpu::Lock lock = gpu.Acquire();
  STRAKE_RETURN_IF_ERROR(gpu.CheckUsable());
  STRAKE_RETURN_IF_ERROR(gpu.CheckNotCapturing(kBegin));
  if (stream == nullptr) {
    return EmulatedError(kBegin, "cudaErrorStreamCaptureUnsupported",
                         "operation not permitted when stream is capturing");
  }
  const auto capture = std::make_shared<EmulatedCapture>();
  capture->streams[stream];
  stream->capture = ThisEmulatedThread().capture = capture;
  lock.unlock();
  const absl::Status status = enqueue();
  lock.lock();
  for (auto& [captured, order] : capture->streams) captured->capture = nullptr;
  ThisEmulatedThread().capture = nullptr;
  STRAKE_RETURN_IF_ERROR(status);
  STRAKE_RETURN_IF_ERROR(capture->error);
  STRAKE_RETURN_IF_ERROR(CheckJoined(*capture, stream));
  CudaGraph graph;
  graph.graph_.reset(new CUgraphExec_st());
  graph.graph_->runs = std::make_shared<const std::vector<EmulatedRun>>(std::move(capture->runs));
  return graph;
}

absl::Status CudaGraph::Launch(CudaStream stream) const {
  // If an item has to be tried again, the items before it are not repeated.
  return testing::EnqueueOnEmulatedGpu(
      stream, "graph", [runs = graph_->runs, next = size_t{0}]() mutable -> absl::Status {
        for (; next < runs->size(); ++next) STRAKE_RETURN_IF_ERROR((*runs)[next]());
        next = 0;
        return absl::OkStatus();
      });
}

void CudaGraph::Destroy::operator()(CUgraphExec_st* graph) const { delete graph; }

}  // namespace strake
