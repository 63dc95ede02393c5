// The part of a step's communication that its kernels do not hide.
//
// Collectives run one after the other on NVLink, each as a ring. What waits for one:
// - for gradients over dp, the optimizer;
// - for a reduction over tp in the backward pass, what follows the weight's gradient, since the
//   reduction of the input's gradient runs beside that;
// - for ZeRO's gather of weights, the first forward pass of the next step, which can hide it;
// - for everything else, the next kernel.
#ifndef STRAKE_TRAIN_PLAN_EXPOSED_COMMUNICATION_H_
#define STRAKE_TRAIN_PLAN_EXPOSED_COMMUNICATION_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "core/device/op_call.h"
#include "train/plan/gpu_rates.h"

namespace strake {

struct CommunicationTime {
  int64_t num_collectives = 0;
  Forecast total;     // of all collectives, seconds
  Forecast exposed;   // of it, while kernels wait
  Forecast slowdown;  // of the kernels that run beside the rest
};

// `kernel_seconds`: of each call, 0 for collectives. InvalidArgument for groups of more than 8
// ranks, which NVLink does not connect.
absl::StatusOr<CommunicationTime> TimeCommunication(const std::vector<OpCall>& calls,
                                                    const std::vector<Forecast>& kernel_seconds,
                                                    const GpuRates& rates);

}  // namespace strake

#endif  // STRAKE_TRAIN_PLAN_EXPOSED_COMMUNICATION_H_
