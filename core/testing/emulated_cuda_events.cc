// core/cuda/cuda_runtime.h for the emulated GPU: events and graphs.
#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "core/testing/emulated_gpu_streams.h"

using strake::testing::EmulatedNode;
using strake::testing::EmulatedPoint;

struct CUevent_st {
  bool timing = false;
  std::shared_ptr<EmulatedPoint> point;  // null: never recorded
};

struct CUgraphExec_st {
  std::shared_ptr<const std::vector<EmulatedNode>> nodes;
  uint64_t num_launches = 0;
};

namespace strake {
namespace {

using testing::EmulatedCapture;
using testing::EmulatedError;
using testing::EmulatedGpu;
using testing::ThisEmulatedThread;

absl::Status CheckNotCaptured(const char* call, const EmulatedPoint& point) {
  if (point.capture == nullptr) return absl::OkStatus();
  return EmulatedError(call, "cudaErrorCapturedEvent",
                       "operation not permitted on an event last recorded in a capturing stream");
}

// Adds the stream to the point's capture, if it is not part of it.
absl::Status Join(const EmulatedPoint& point, CUstream_st& stream) {
  if (stream.capture != nullptr && stream.capture != point.capture) {
    return EmulatedError("cudaStreamWaitEvent(stream, event, 0)", "cudaErrorStreamCaptureIsolation",
                         "dependency created on uncaptured work in another stream");
  }
  stream.capture = point.capture;
  ++stream.num_calls;
  point.capture->streams[&stream].insert(point.after.begin(), point.after.end());
  return absl::OkStatus();
}

// Returns an error unless `origin` waits for everything that is captured.
absl::Status CheckJoined(const EmulatedCapture& capture, CUstream_st* origin) {
  std::set<size_t> joined = capture.streams.at(origin);
  for (size_t node = capture.nodes.size(); node-- > 0;) {
    if (joined.count(node) == 0) {
      return EmulatedError("cudaStreamEndCapture(stream, &recorded)",
                           "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work");
    }
    joined.insert(capture.nodes[node].after.begin(), capture.nodes[node].after.end());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CudaEvent> CudaEvent::Create(CudaEventKind kind) {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  STRAKE_RETURN_IF_ERROR(gpu.CheckUsable());
  CudaEvent owner;
  owner.event_.reset(new CUevent_st());
  owner.event_->timing = kind == CudaEventKind::kTiming;
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
    ++recorded.num_calls;
    event_->point->after = recorded.capture->streams[&recorded];
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
  if (first == nullptr || last == nullptr || !start.event_->timing || !event_->timing) {
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
  static uint64_t num_captures = 0;
  const auto capture = std::make_shared<EmulatedCapture>();
  capture->number = ++num_captures;
  capture->streams[stream];
  stream->capture = ThisEmulatedThread().capture = capture;
  lock.unlock();
  const absl::Status status = enqueue();
  lock.lock();
  for (auto& [captured, after] : capture->streams) captured->capture = nullptr;
  ThisEmulatedThread().capture = nullptr;
  STRAKE_RETURN_IF_ERROR(status);
  STRAKE_RETURN_IF_ERROR(capture->error);
  STRAKE_RETURN_IF_ERROR(CheckJoined(*capture, stream));
  CudaGraph graph;
  graph.graph_.reset(new CUgraphExec_st());
  graph.graph_->nodes =
      std::make_shared<const std::vector<EmulatedNode>>(std::move(capture->nodes));
  return graph;
}

absl::Status CudaGraph::Launch(CudaStream stream) const {
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  const auto launch = std::make_shared<testing::EmulatedGraphLaunch>(
      graph_->nodes, gpu.options().seed, ++graph_->num_launches);
  return gpu.Put(stream, [launch] { return launch->Run(); });
}

void CudaGraph::Destroy::operator()(CUgraphExec_st* graph) const { delete graph; }

}  // namespace strake
