#include "core/testing/emulated_gpu_streams.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"
#include "core/cuda/cuda_messages.h"
#include "glog/logging.h"

namespace strake::testing {
namespace {

constexpr int kRuntimeVersion = 13000;
constexpr char kVariable[] = "STRAKE_EMULATED_GPU";

}  // namespace

EmulatedGpuOptions EmulatedGpuOptionsOfEnvironment() {
  EmulatedGpuOptions options = {.seed = 1};
  const char* const text = std::getenv(kVariable);
  if (text == nullptr) return options;
  for (const absl::string_view pair : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    const std::pair<std::string, std::string> setting = absl::StrSplit(pair, '=');
    const auto& [name, figure] = setting;
    int value = 0;
    CHECK(absl::SimpleAtoi(figure, &value) && value >= 0) << kVariable << "=" << text;
    if (name == "devices") {
      options.num_devices = value;
    } else if (name == "memory_mib") {
      options.memory_bytes = static_cast<size_t>(value) << 20;
    } else if (name == "driver") {
      options.driver_version = value;
    } else if (name == "architecture") {
      options.architecture = value;
    } else if (name == "seed") {
      options.seed = value;
    } else {
      LOG(FATAL) << kVariable << "=" << text << ": there is no " << name;
    }
  }
  return options;
}

EmulatedThread& ThisEmulatedThread() {
  thread_local EmulatedThread thread;
  return thread;
}

absl::Status EmulatedError(absl::string_view call, absl::string_view name, absl::string_view text,
                           const char* file, int line) {
  return CudaCallFailed(call, name, text, file, line);
}

EmulatedGpu::EmulatedGpu() { set_options(EmulatedGpuOptionsOfEnvironment()); }

void EmulatedGpu::set_options(const EmulatedGpuOptions& options) {
  options_ = options;
  if (options.seed == 0) options_.seed = EmulatedGpuOptionsOfEnvironment().seed;
  random_.seed(options_.seed);
}

EmulatedGpu& EmulatedGpu::Get() {
  // Never destroyed, because other statics may free memory.
  static EmulatedGpu* const gpu = new EmulatedGpu();
  return *gpu;
}

CUstream_st* EmulatedGpu::NewStream(int device, CudaStreamPriority priority) {
  streams_.push_back(std::make_shared<CUstream_st>());
  streams_.back()->device = device;
  streams_.back()->priority = priority;
  return streams_.back().get();
}

void EmulatedGpu::DestroyStream(CUstream_st* stream) {
  stream->destroyed = true;
  std::erase_if(streams_, [](const auto& s) { return s->destroyed && s->items.empty(); });
}

CUstream_st& EmulatedGpu::Stream(CudaStream stream, int device) {
  if (stream != nullptr) return *stream;
  CUstream_st*& default_stream = default_streams_[device];
  if (default_stream == nullptr) default_stream = NewStream(device, CudaStreamPriority::kNormal);
  return *default_stream;
}

void EmulatedGpu::Enqueue(CUstream_st& stream, EmulatedItem item) {
  stream.items.push_back(std::move(item));
  ++stream.num_enqueued;
  ++stream.num_calls;
  changed_.notify_all();
}

absl::Status EmulatedGpu::Put(CudaStream stream, EmulatedRun run) {
  STRAKE_RETURN_IF_ERROR(CheckUsable());
  if (options_.on_launch) return absl::OkStatus();
  CUstream_st& to = Stream(stream, ThisEmulatedThread().device);
  if (to.capture == nullptr) {
    Enqueue(to, {.wait = nullptr, .run = std::move(run), .point = nullptr});
    return absl::OkStatus();
  }
  EmulatedCapture& capture = *to.capture;
  STRAKE_RETURN_IF_ERROR(capture.error);
  std::set<size_t>& after = capture.streams[&to];
  capture.nodes.push_back({.run = std::move(run), .after = after, .stream = &to});
  after = {capture.nodes.size() - 1};
  ++to.num_calls;
  return absl::OkStatus();
}

std::shared_ptr<CUstream_st> EmulatedGpu::Share(const CUstream_st& stream) const {
  return *std::find_if(streams_.begin(), streams_.end(),
                       [&](const auto& s) { return s.get() == &stream; });
}

absl::Status EmulatedGpu::RunStream(Lock& lock, CUstream_st& stream) {
  const std::shared_ptr<CUstream_st> shared = Share(stream);
  const uint64_t end = stream.num_enqueued;
  RunAll(lock, [&] { return shared->num_done < end ? shared.get() : nullptr; });
  return error_;
}

absl::Status EmulatedGpu::RunUntil(Lock& lock, const std::shared_ptr<EmulatedPoint>& point) {
  if (!point->reached) {
    const std::shared_ptr<CUstream_st> shared = Share(*point->stream);
    RunAll(lock, [&] { return point->reached ? nullptr : shared.get(); });
  }
  return error_;
}

absl::Status EmulatedGpu::RunDevice(Lock& lock, int device) {
  // Holds the streams, because the lock may be released, and others then create and destroy some.
  std::vector<std::pair<std::shared_ptr<CUstream_st>, uint64_t>> ends;
  for (const auto& stream : streams_) {
    if (device < 0 || stream->device == device) ends.emplace_back(stream, stream->num_enqueued);
  }
  RunAll(lock, [&]() -> CUstream_st* {
    std::erase_if(ends, [](const auto& end) { return end.first->num_done >= end.second; });
    return ends.empty() ? nullptr : ends[random_() % ends.size()].first.get();
  });
  std::erase_if(streams_, [](const auto& s) { return s->destroyed && s->items.empty(); });
  return error_;
}

void EmulatedGpu::RunAll(Lock& lock, const std::function<CUstream_st*()>& next) {
  CUstream_st* stream = next();
  while (error_.ok() && stream != nullptr) {
    bool ran = true;
    {
      const EmulatedGpuMemory::ScopedOpen open(memory_);
      while (ran && error_.ok() && stream != nullptr) {
        ran = RunOne(*stream) || RunOneOfOthers(*stream);
        stream = next();
      }
    }
    changed_.notify_all();
    // Only work of another thread, or of another process, can help.
    if (!ran && stream != nullptr) {
      changed_.wait_for(lock, std::chrono::milliseconds(1));
      stream = next();
    }
  }
  if (!error_.ok()) Abandon();
}

// Runs the first item of the stream, or one that it waits for. Returns false if it has to be tried
// again later.
bool EmulatedGpu::RunOne(CUstream_st& stream) {
  EmulatedItem& item = stream.items.front();
  if (item.wait != nullptr && !item.wait->reached) return RunOne(*item.wait->stream);
  if (item.run != nullptr) {
    absl::Status status = item.run();
    if (absl::IsUnavailable(status)) return false;
    if (!status.ok()) error_ = std::move(status);
  }
  if (item.point != nullptr) {
    item.point->reached = true;
    item.point->time = std::chrono::steady_clock::now();
  }
  stream.items.pop_front();
  ++stream.num_done;
  return true;
}

bool EmulatedGpu::RunOneOfOthers(const CUstream_st& stream) {
  for (const auto& other : streams_) {
    if (other.get() != &stream && !other->items.empty() && RunOne(*other)) return true;
  }
  return false;
}

// After an error nothing runs any more, and nothing waits.
void EmulatedGpu::Abandon() {
  for (const auto& stream : streams_) {
    for (const EmulatedItem& item : stream->items) {
      if (item.point != nullptr) item.point->reached = true;
    }
    stream->items.clear();
    stream->num_done = stream->num_enqueued;
  }
  changed_.notify_all();
}

absl::Status EmulatedGpu::CheckUsable() const {
  if (options_.driver_version < kRuntimeVersion) {
    return CudaDriverTooOld(options_.driver_version, kRuntimeVersion);
  }
  if (options_.num_devices == 0) return NoCudaDevice(std::getenv("CUDA_VISIBLE_DEVICES"));
  return error_;
}

namespace {

absl::Status End(EmulatedCapture& capture, absl::string_view call) {
  const absl::Status error = EmulatedError(call, "cudaErrorStreamCaptureUnsupported",
                                           "operation not permitted when stream is capturing");
  if (capture.error.ok()) capture.error = error;
  return error;
}

}  // namespace

absl::Status EmulatedGpu::CheckNotCapturing(absl::string_view call) const {
  const std::shared_ptr<EmulatedCapture>& capture = ThisEmulatedThread().capture;
  return capture == nullptr ? absl::OkStatus() : End(*capture, call);
}

absl::Status EmulatedGpu::CheckNotCaptured(absl::string_view call,
                                           const CUstream_st& stream) const {
  return stream.capture == nullptr ? absl::OkStatus() : End(*stream.capture, call);
}

std::vector<CUstream_st*> EmulatedGpu::Streams(int device) const {
  std::vector<CUstream_st*> streams;
  for (const auto& stream : streams_) {
    if (stream->device == device) streams.push_back(stream.get());
  }
  return streams;
}

}  // namespace strake::testing
