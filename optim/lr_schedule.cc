#include "optim/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr ScheduleKind kKinds[] = {ScheduleKind::kConstant, ScheduleKind::kLinear,
                                   ScheduleKind::kCosine, ScheduleKind::kWsd};

// The fraction of (begin, end] that is done before `step`, from 0 to 1.
double Progress(int64_t step, int64_t begin, int64_t end) {
  if (step > end) return 1;
  return std::max(0.0, static_cast<double>(step - 1 - begin) / static_cast<double>(end - begin));
}

double Interpolate(double from, double to, double progress) {
  // Exact at both ends.
  return from * (1 - progress) + to * progress;
}

int64_t WsdDecayStart(const LrSchedule& schedule) {
  const int64_t total = schedule.total_steps;
  const int64_t decay_steps = total / kWsdDecayDivisor + (total % kWsdDecayDivisor != 0);
  return std::max(schedule.warmup_steps, total - decay_steps);
}

}  // namespace

double LearningRate(const LrSchedule& schedule, int64_t step) {
  CHECK_GT(step, 0) << "[lr_schedule] steps count from 1";
  const double lr = schedule.lr, min_lr = schedule.min_lr;
  if (step <= schedule.warmup_steps) {
    return lr * (static_cast<double>(step) / static_cast<double>(schedule.warmup_steps));
  }
  const double progress = Progress(step, schedule.warmup_steps, schedule.total_steps);
  switch (schedule.kind) {
    case ScheduleKind::kConstant:
      return lr;
    case ScheduleKind::kLinear:
      return Interpolate(lr, min_lr, progress);
    case ScheduleKind::kCosine:
      return Interpolate(lr, min_lr, (1 - std::cos(std::numbers::pi * progress)) / 2);
    case ScheduleKind::kWsd:
      return Interpolate(lr, min_lr, Progress(step, WsdDecayStart(schedule), schedule.total_steps));
  }
  LOG(FATAL) << "[lr_schedule] unknown kind " << static_cast<int>(schedule.kind);
}

const char* ScheduleKindName(ScheduleKind kind) {
  switch (kind) {
    case ScheduleKind::kConstant:
      return "constant";
    case ScheduleKind::kLinear:
      return "linear";
    case ScheduleKind::kCosine:
      return "cosine";
    case ScheduleKind::kWsd:
      return "wsd";
  }
  LOG(FATAL) << "[lr_schedule] unknown kind " << static_cast<int>(kind);
}

absl::StatusOr<ScheduleKind> ParseScheduleKind(absl::string_view name) {
  for (const ScheduleKind kind : kKinds) {
    if (name == ScheduleKindName(kind)) return kind;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "schedule \"", name, "\" is not known; valid ones: constant, linear, cosine, wsd"));
}

}  // namespace strake
