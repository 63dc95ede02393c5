// CallTimes: what one recorded call should take on an H100 or H200, by class of kernels.
//
// A kernel takes the longer one of its FLOPs at the rate of its class and its bytes at the rate of
// copies. Beside a call's own bytes count partial sums, and the matrix dS that the deterministic
// backward pass of attention keeps in memory. Rates are of bf16, of attention by cuDNN, and of
// products large enough to fill the GPU, with thousands of tokens.
#ifndef STRAKE_TRAIN_PLAN_CALL_TIMES_H_
#define STRAKE_TRAIN_PLAN_CALL_TIMES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/device/op_call.h"
#include "train/plan/gpu_rates.h"

namespace strake {

// What could make a step faster than its recorded calls say.
struct StepRemedies {
  bool atomic_attention = false;  // the backward pass of attention adds dQ by atomics, without dS
  bool tuned_products = false;    // algorithms from a table of measurements
  bool one_adamw_launch = false;  // for all parameters
};

struct StepRemedy {
  const char* name;
  bool StepRemedies::*member;
};
const std::vector<StepRemedy>& AllStepRemedies();

// The kernels of one class, in one call or in a whole step.
struct CallTimeRow {
  std::string name;
  double flops = 0, bytes = 0;
  int64_t kernels = 0;
  Forecast seconds = {};
};

// The rows of one call, of `times` 1. InvalidArgument for what there is no rate of: an op that the
// table of call_times.cc lacks, a dtype, a size of heads.
absl::StatusOr<std::vector<CallTimeRow>> ForecastCall(const OpCall& call, const GpuRates& rates,
                                                      const StepRemedies& remedies = {});

}  // namespace strake

#endif  // STRAKE_TRAIN_PLAN_CALL_TIMES_H_
