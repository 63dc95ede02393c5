#include "train/trace/step_trace.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

const char* RowName(TraceRow row) {
  switch (row) {
    case TraceRow::kMain:
      return "main";
    case TraceRow::kSaver:
      return "checkpoint writer";
    case TraceRow::kGpuOps:
      return "GPU";
    case TraceRow::kGpuDp:
      return "GPU, collectives over dp";
    case TraceRow::kGpuTp:
      return "GPU, collectives over tp";
  }
  return "";
}

std::string Quoted(const std::string& text) { return JsonText(nlohmann::json(text)); }

// Microseconds, with all digits of the nanoseconds.
std::string Microseconds(int64_t nanoseconds) {
  return absl::StrFormat("%.3f", double(nanoseconds) / 1000);
}

std::string NameOf(const SpanLabel& label) {
  const std::string category = label.category;
  if (category == "wait") return absl::StrCat("wait: ", label.name);
  const bool numbered = label.index >= 0 && label.axis == nullptr;
  return numbered ? absl::StrCat(label.name, " ", label.index) : label.name;
}

std::string ArgumentsOf(const TraceSlice& slice) {
  const SpanLabel& label = slice.label;
  std::vector<std::string> arguments;
  if (slice.pass != nullptr) arguments.push_back(absl::StrCat("\"pass\":\"", slice.pass, "\""));
  if (slice.flops > 0) arguments.push_back(absl::StrFormat("\"flops\":%.0f", slice.flops));
  if (label.bytes > 0) arguments.push_back(absl::StrFormat("\"bytes\":%.0f", label.bytes));
  if (label.axis != nullptr) {
    arguments.push_back(absl::StrCat("\"axis\":", Quoted(label.axis), ",\"ranks\":",
                                     label.num_ranks, ",\"sequence\":", label.index));
  }
  if (label.file != nullptr) {
    const std::string place = absl::StrCat(label.file, ":", label.line);
    arguments.push_back(absl::StrCat("\"at\":", Quoted(place)));
  }
  std::string text;
  for (const std::string& argument : arguments) {
    absl::StrAppend(&text, text.empty() ? "" : ",", argument);
  }
  return text;
}

// Process 0 is the idle one to Perfetto, so rank 0 is process 1. The thread of the process's number
// is its main one.
std::string PlaceOf(int rank, TraceRow row) {
  constexpr int kRowStride = 1 << 20;
  const int process = rank + 1;
  return absl::StrCat("\"pid\":", process,
                      ",\"tid\":", process + static_cast<int>(row) * kRowStride);
}

std::string EventOf(const TraceSlice& slice, int rank, int64_t origin) {
  return absl::StrCat(
      "{\"ph\":\"X\",", PlaceOf(rank, slice.row), ",\"ts\":", Microseconds(slice.begin - origin),
      ",\"dur\":", Microseconds(slice.end - slice.begin), ",\"name\":", Quoted(NameOf(slice.label)),
      ",\"cat\":", Quoted(slice.label.category), ",\"args\":{", ArgumentsOf(slice), "}}");
}

std::string NameEvent(const char* what, int rank, TraceRow row, const std::string& name,
                      const char* key = "name") {
  return absl::StrCat("{\"ph\":\"M\",", PlaceOf(rank, row), ",\"name\":\"", what, "\",\"args\":{\"",
                      key, "\":", Quoted(name), "}}");
}

// Outer slices before those in them, also where the clock stood still: in this order they nest.
// Slices come in the order of their ends.
std::vector<TraceSlice> OuterFirst(std::vector<TraceSlice> slices) {
  std::reverse(slices.begin(), slices.end());
  std::stable_sort(slices.begin(), slices.end(), [](const TraceSlice& a, const TraceSlice& b) {
    return std::tie(a.begin, b.end) < std::tie(b.begin, a.end);
  });
  return slices;
}

}  // namespace

int64_t SteadyNanoseconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

// --- A thread beside. ---

void ThreadTrace::Begin(const SpanLabel& label) {
  const std::lock_guard<std::mutex> lock(mutex_);
  open_.push_back({.label = label, .row = TraceRow::kSaver, .begin = clock_()});
}

void ThreadTrace::End() {
  const std::lock_guard<std::mutex> lock(mutex_);
  CHECK(!open_.empty()) << "[trace] End() without Begin()";
  open_.back().end = clock_();
  done_.push_back(open_.back());
  open_.pop_back();
}

std::vector<TraceSlice> ThreadTrace::Between(int64_t begin, int64_t end) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<TraceSlice> slices;
  const auto add = [&](TraceSlice slice) {
    slice.begin = std::max(slice.begin, begin);
    slice.end = std::min(slice.end, end);
    if (slice.begin < slice.end) slices.push_back(slice);
  };
  for (const TraceSlice& slice : done_) add(slice);
  for (TraceSlice slice : open_) {
    slice.end = end;
    add(slice);
  }
  return slices;
}

// --- The rank's thread. ---

StepTrace::StepTrace(Options options) : options_(std::move(options)), saver_(options_.clock) {
  if (options_.stream.has_value()) timeline_.emplace(*options_.stream);
}

absl::Status StepTrace::BeginStep(int64_t step) {
  Begin({.category = "step", .name = "step", .index = step});
  if (first_time_ < 0) first_time_ = open_.back().begin;
  return timeline_.has_value() ? SetAnchor() : absl::OkStatus();
}

// Looks at the clock before the GPU does: its slices then lie between the step's begin and end.
absl::Status StepTrace::SetAnchor() {
  const ProfileSpan span(this, {.category = "wait", .name = "gpu"});
  STRAKE_RETURN_IF_ERROR(timeline_->Wait());
  anchor_time_ = options_.clock();
  STRAKE_ASSIGN_OR_RETURN(anchor_point_, timeline_->Record());
  return absl::OkStatus();
}

absl::Status StepTrace::EndStep() {
  absl::Status status;
  if (timeline_.has_value()) {
    const ProfileSpan span(this, {.category = "wait", .name = "gpu"});
    status = timeline_->Wait();
  }
  End();
  CHECK(open_.empty()) << "[trace] " << open_.back().label.name << " is open after the step";
  last_time_ = options_.clock();
  if (!timeline_.has_value()) return status;
  status.Update(std::exchange(error_, absl::OkStatus()));
  if (status.ok()) status = AddGpuOps();
  if (status.ok()) status = AddTimings(TraceRow::kGpuDp, &dp_timings_);
  if (status.ok()) status = AddTimings(TraceRow::kGpuTp, &tp_timings_);
  timeline_->Clear();
  starts_.clear();
  gpu_ops_.clear();
  dp_timings_.clear();
  tp_timings_.clear();
  return status;
}

// Open slices and those of the GPU that wait for the step's end count.
bool StepTrace::HasRoom() {
  const size_t kept = slices_.size() + open_.size() + gpu_ops_.size();
  if (static_cast<int64_t>(kept) < options_.max_slices) return true;
  ++num_dropped_;
  return false;
}

int64_t StepTrace::Mark() {
  const absl::StatusOr<int64_t> point = timeline_->Record();
  error_.Update(point.status());
  return point.ok() ? *point : -1;
}

int64_t StepTrace::Now() {
  if (!timeline_.has_value()) return options_.clock();
  starts_.push_back({options_.clock(), Mark()});
  return static_cast<int64_t>(starts_.size()) - 1;
}

void StepTrace::AddSince(int64_t start, const char* op, Pass pass, const OpCost& cost) {
  if (!HasRoom()) return;
  TraceSlice slice = {.label = {.category = "op", .name = op, .bytes = cost.bytes},
                      .pass = PassName(pass),
                      .flops = cost.flops,
                      .begin = timeline_.has_value() ? starts_[start].time : start,
                      .end = options_.clock()};
  slices_.push_back(slice);
  if (!timeline_.has_value() || !HasRoom()) return;
  slice.row = TraceRow::kGpuOps;
  gpu_ops_.push_back({slice, starts_[start].point, Mark()});
}

void StepTrace::Begin(const SpanLabel& label) {
  open_.push_back({.label = label, .begin = options_.clock()});
}

void StepTrace::End() {
  CHECK(!open_.empty()) << "[trace] End() without Begin()";
  TraceSlice slice = open_.back();
  open_.pop_back();
  slice.end = options_.clock();
  // The steps themselves are few, and kept in any case.
  if (open_.empty() || HasRoom()) slices_.push_back(slice);
}

absl::Status StepTrace::AddGpuOps() {
  for (GpuOp& op : gpu_ops_) {
    STRAKE_ASSIGN_OR_RETURN(const double from, timeline_->Seconds(anchor_point_, op.from));
    STRAKE_ASSIGN_OR_RETURN(const double to, timeline_->Seconds(anchor_point_, op.to));
    op.slice.begin = anchor_time_ + std::llround(from * 1e9);
    op.slice.end = anchor_time_ + std::llround(to * 1e9);
    slices_.push_back(op.slice);
  }
  return absl::OkStatus();
}

absl::Status StepTrace::AddTimings(TraceRow row,
                                   std::vector<std::shared_ptr<CollectiveTiming>>* timings) {
  const CudaEvent& anchor = timeline_->event(anchor_point_);
  for (const std::shared_ptr<CollectiveTiming>& timing : *timings) {
    if (!HasRoom()) continue;
    STRAKE_ASSIGN_OR_RETURN(const double begin, timing->begin.SecondsSince(anchor));
    STRAKE_ASSIGN_OR_RETURN(const double end, timing->end.SecondsSince(anchor));
    slices_.push_back(
        {.label = {.category = "collective", .name = timing->name, .bytes = timing->bytes},
         .row = row,
         .begin = anchor_time_ + std::llround(begin * 1e9),
         .end = anchor_time_ + std::llround(end * 1e9)});
  }
  return absl::OkStatus();
}

std::string StepTrace::EventsJson(int64_t origin) const {
  std::vector<TraceSlice> slices = slices_;
  const std::vector<TraceSlice> of_saver = saver_.Between(first_time_, last_time_);
  slices.insert(slices.end(), of_saver.begin(), of_saver.end());
  const int rank = options_.rank;
  std::string text = NameEvent("process_name", rank, TraceRow::kMain, absl::StrCat("rank ", rank));
  if (num_dropped_ > 0) {
    const std::string label = absl::StrCat(num_dropped_, " slices are left out");
    absl::StrAppend(&text, ",\n",
                    NameEvent("process_labels", rank, TraceRow::kMain, label, "labels"));
  }
  std::set<TraceRow> named;
  for (const TraceSlice& slice : OuterFirst(std::move(slices))) {
    if (named.insert(slice.row).second) {
      absl::StrAppend(&text, ",\n", NameEvent("thread_name", rank, slice.row, RowName(slice.row)));
    }
    absl::StrAppend(&text, ",\n", EventOf(slice, rank, origin));
  }
  return text;
}

}  // namespace strake
