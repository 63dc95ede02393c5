// StepTimes: what a training step should take on an H100 or H200, class of kernels by class of
// kernels, forecast from the calls that a dry run records (RecordStep()).
//
// It is the sum of the kernels of all calls (call_times.h), the gaps between them, and the
// collectives that they do not hide (exposed_communication.h). Input, evaluation and checkpoints do
// not count.
#ifndef STRAKE_TRAIN_PLAN_STEP_TIMES_H_
#define STRAKE_TRAIN_PLAN_STEP_TIMES_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/op_profile.h"
#include "core/device/op_call.h"
#include "train/plan/call_times.h"
#include "train/plan/gpu_rates.h"

namespace strake {

struct StepTimes {
  std::vector<CallTimeRow> rows;  // in the order of the step; gaps and communication are last
  // Seconds by op and pass, as an OpProfile has them; without the gaps, and without collectives.
  std::map<std::pair<std::string, Pass>, Forecast> ops;
  CallTimeRow sum;
};

// All calls of a step. Also InvalidArgument for groups of more than 8 ranks, which NVLink does not
// connect.
absl::StatusOr<StepTimes> ForecastStep(const std::vector<OpCall>& calls, const GpuRates& rates,
                                       const StepRemedies& remedies = {});

}  // namespace strake

#endif  // STRAKE_TRAIN_PLAN_STEP_TIMES_H_
