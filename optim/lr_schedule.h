// The learning rate of each step.
//
// W warm-up steps, N steps in all, step t from 1, p = (t - 1 - W) / (N - W) the share of the rest
// that is done before the step:
//
//   t <= W      lr * t / W
//   constant    lr
//   linear      lr + (min_lr - lr) p
//   cosine      min_lr + (lr - min_lr) (1 + cos(pi p)) / 2
//   wsd         lr until step S = max(W, N - ceil(N / 5)), then
//               lr + (min_lr - lr) (t - 1 - S) / (N - S)
//
// p is below 1 at step N, so that no step of a run is one of rate min_lr. After step N the rate is
// min_lr, except that of the constant schedule.
// Source: cosine: Loshchilov and Hutter, "SGDR", 2017, equation 5; wsd (warm-up, stable, decay): Hu
// et al., "MiniCPM", 2024, section 4.
#ifndef STRAKE_OPTIM_LR_SCHEDULE_H_
#define STRAKE_OPTIM_LR_SCHEDULE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

enum class ScheduleKind { kConstant, kLinear, kCosine, kWsd };

// wsd decays over the last fifth of the steps.
inline constexpr int64_t kWsdDecayDivisor = 5;

struct LrSchedule {
  ScheduleKind kind = ScheduleKind::kCosine;
  double lr = 0;
  double min_lr = 0;
  int64_t warmup_steps = 0;
  int64_t total_steps = 0;
};

// A pure function of the step: resuming with another total_steps recomputes it. CHECKs step > 0.
double LearningRate(const LrSchedule& schedule, int64_t step);

// "constant", "linear", "cosine", "wsd"; InvalidArgument for another name, with the valid ones.
absl::StatusOr<ScheduleKind> ParseScheduleKind(absl::string_view name);
const char* ScheduleKindName(ScheduleKind kind);

}  // namespace strake

#endif  // STRAKE_OPTIM_LR_SCHEDULE_H_
