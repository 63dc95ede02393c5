// StepTrace: what a rank does in some steps, slice by slice, in the JSON that Perfetto and Chrome
// show.
#ifndef STRAKE_TRAIN_TRACE_STEP_TRACE_H_
#define STRAKE_TRAIN_TRACE_STEP_TRACE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/base/op_profile.h"
#include "core/cuda/stream.h"
#include "core/device/cuda_timeline.h"
#include "parallel/comm/collective_timing.h"

namespace strake {

// Nanoseconds on a clock that never goes back.
using TraceClock = std::function<int64_t()>;
int64_t SteadyNanoseconds();

// Rows of a rank. Of several slices on a row, one lies in the other, or they lie apart.
enum class TraceRow : uint8_t { kMain, kSaver, kGpuOps, kGpuDp, kGpuTp };

struct TraceSlice {
  SpanLabel label = {};
  TraceRow row = TraceRow::kMain;
  const char* pass = nullptr;  // of an op
  double flops = 0;            // likewise
  int64_t begin = 0, end = 0;  // of the clock
};

// The spans of a thread beside the rank's own, which may run on when the trace is read.
class ThreadTrace : public OpProfile {
 public:
  explicit ThreadTrace(TraceClock clock) : clock_(std::move(clock)) {}

  void Begin(const SpanLabel& label) override;
  void End() override;

  // Returns what ran between two times, cut there. It is called on any thread.
  std::vector<TraceSlice> Between(int64_t begin, int64_t end) const;

 private:
  const TraceClock clock_;
  mutable std::mutex mutex_;
  std::vector<TraceSlice> done_, open_;
};

// Used on the rank's thread, as the engine's profile between BeginStep() and EndStep(). On a GPU
// the main row shows when the host enqueued an op, and another when it ran. Slices beyond the limit
// are counted, and not kept.
class StepTrace : public OpProfile {
 public:
  struct Options {
    int rank = 0;
    int64_t max_slices = int64_t{1} << 20;  // about 160 MB of JSON
    std::optional<CudaStream> stream = {};  // of the rank's GPU
    TraceClock clock = SteadyNanoseconds;
  };

  explicit StepTrace(Options options);

  // Begins a step's slice. On a GPU, waits for what came before, to compare the clocks. Returns an
  // error of the GPU.
  absl::Status BeginStep(int64_t step);
  // Ends it. On a GPU, waits for the step's work.
  absl::Status EndStep();

  int64_t Now() override;
  void AddSince(int64_t start, const char* op, Pass pass, const OpCost& cost) override;
  void Begin(const SpanLabel& label) override;
  void End() override;

  // Arguments of Communicator::set_timings(), on a GPU.
  std::vector<std::shared_ptr<CollectiveTiming>>* dp_timings() { return &dp_timings_; }
  std::vector<std::shared_ptr<CollectiveTiming>>* tp_timings() { return &tp_timings_; }

  // The profile of the thread that writes checkpoints, which may go on after the steps.
  OpProfile* saver() { return &saver_; }

  const std::vector<TraceSlice>& slices() const { return slices_; }
  int64_t max_slices() const { return options_.max_slices; }
  int64_t num_dropped() const { return num_dropped_; }

  // The events, separated by commas, with times from `origin` of the clock on.
  std::string EventsJson(int64_t origin) const;

  // Frees the slices.
  void Clear() { slices_ = {}; }

 private:
  struct Start {
    int64_t time;   // of the clock
    int64_t point;  // of timeline_
  };
  struct GpuOp {
    TraceSlice slice;
    int64_t from, to;  // points of timeline_
  };

  absl::Status SetAnchor();
  bool HasRoom();
  int64_t Mark();
  absl::Status AddGpuOps();
  absl::Status AddTimings(TraceRow row, std::vector<std::shared_ptr<CollectiveTiming>>* timings);

  const Options options_;
  std::vector<TraceSlice> slices_, open_;
  int64_t num_dropped_ = 0;
  int64_t first_time_ = -1, last_time_ = -1;  // of the traced steps
  ThreadTrace saver_;

  // Members of a GPU's trace:
  std::optional<CudaTimeline> timeline_;
  int64_t anchor_point_ = 0, anchor_time_ = 0;  // the same moment on both clocks, to some us
  std::vector<Start> starts_;
  std::vector<GpuOp> gpu_ops_;
  std::vector<std::shared_ptr<CollectiveTiming>> dp_timings_, tp_timings_;
  absl::Status error_;
};

}  // namespace strake

#endif  // STRAKE_TRAIN_TRACE_STEP_TRACE_H_
