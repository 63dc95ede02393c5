#include "train/plan/exposed_communication.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "parallel/comm/collective_call.h"
#include "train/plan/comm_cost.h"

namespace strake {
namespace {

constexpr int kRanksOnNvlink = 8;

using Figure = double Forecast::*;

CollectiveKind KindOf(const OpCall& call) {
  for (int i = 0; i < kNumCollectiveKinds; ++i) {
    const auto kind = static_cast<CollectiveKind>(i);
    if (std::strcmp(call.op, CollectiveName(kind)) == 0) return kind;
  }
  LOG(FATAL) << "[exposed_communication] no collective: " << call.ToString();
}

// Of one repetition.
double RingSeconds(const OpCall& call, const CommLink& link) {
  const CommCostRow row = {.phase = {},
                           .axis = call.axis,
                           .num_ranks = call.num_ranks,
                           .collective = KindOf(call),
                           .calls = 1,
                           .bytes = static_cast<int64_t>(call.cost.bytes)};
  return row.Seconds(link);
}

enum class WaitsFor { kNextKernel, kEndOfWeightGradient, kOptimizer, kNextForwardPass };

WaitsFor WhatWaits(const OpCall& call) {
  if (call.layer == "gradients") return WaitsFor::kOptimizer;
  if (call.layer == "weights") {
    return WaitsFor::kNextForwardPass;
  }
  const CollectiveKind kind = KindOf(call);
  const bool reduces =
      kind == CollectiveKind::kAllReduceSum || kind == CollectiveKind::kReduceScatterSum;
  return call.axis == "tp" && call.pass == Pass::kBackward && reduces
             ? WaitsFor::kEndOfWeightGradient
             : WaitsFor::kNextKernel;
}

// Products into f32, and the bias's gradient before them.
bool IsWeightGradient(const OpCall& call) {
  if (std::strcmp(call.op, "bias_add") == 0) return call.Has("dbias");
  return std::strcmp(call.op, "matmul") == 0 && call.Find("c")->dtype == DType::kF32;
}

// Two clocks, in seconds from the start of the step: of the kernels and of the link.
class Timeline {
 public:
  void Run(const OpCall& call, double seconds) {
    if (!IsWeightGradient(call)) WaitUntil(weight_gradient_end_);
    if (call.pass == Pass::kOptimizer) WaitUntil(optimizer_start_);
    in_first_forward_ = in_first_forward_ && call.pass == Pass::kForward;
    if (in_first_forward_) first_forward_ += seconds;
    now_ += seconds;
  }

  void Communicate(WaitsFor waits, double seconds) {
    total_ += seconds;
    if (waits == WaitsFor::kNextForwardPass) {
      next_step_ += seconds;
      return;
    }
    link_ = std::max(now_, link_) + seconds;
    if (waits == WaitsFor::kNextKernel) {
      WaitUntil(link_);
    } else if (waits == WaitsFor::kEndOfWeightGradient) {
      weight_gradient_end_ = link_;
    } else {
      optimizer_start_ = link_;
    }
  }

  void Finish() {
    WaitUntil(std::max(weight_gradient_end_, optimizer_start_));
    WaitUntil(now_ + next_step_ - first_forward_);
  }

  double total() const { return total_; }
  double exposed() const { return exposed_; }

 private:
  void WaitUntil(double end) {
    exposed_ += std::max(0.0, end - now_);
    now_ = std::max(now_, end);
  }

  double now_ = 0, link_ = 0, first_forward_ = 0, total_ = 0, exposed_ = 0;
  bool in_first_forward_ = true;
  double weight_gradient_end_ = 0, optimizer_start_ = 0;
  double next_step_ = 0;  // of collectives that run beside the next step's first forward pass
};

}  // namespace

absl::StatusOr<CommunicationTime> TimeCommunication(const std::vector<OpCall>& calls,
                                                    const std::vector<Forecast>& kernel_seconds,
                                                    const GpuRates& rates) {
  CHECK_EQ(calls.size(), kernel_seconds.size()) << "[exposed_communication] seconds of calls";
  CommunicationTime result;
  for (const OpCall& call : calls) {
    if (call.is_collective() && call.num_ranks > 1) result.num_collectives += call.times;
    if (call.num_ranks > kRanksOnNvlink) {
      return absl::InvalidArgumentError(
          absl::StrCat("[exposed_communication] a group of ", call.num_ranks,
                       " ranks: NVLink connects at most ", kRanksOnNvlink, " GPUs"));
    }
  }
  for (const Figure figure : {&Forecast::low, &Forecast::expected, &Forecast::ceiling}) {
    const CommLink link = {.bytes_per_second = rates[GpuRate::kLink].*figure,
                           .latency_seconds = rates[GpuRate::kLinkLatency].*figure};
    Timeline timeline;
    for (size_t i = 0; i < calls.size(); ++i) {
      if (!calls[i].is_collective()) {
        timeline.Run(calls[i], kernel_seconds[i].*figure);
      } else if (calls[i].num_ranks > 1) {
        timeline.Communicate(WhatWaits(calls[i]),
                             static_cast<double>(calls[i].times) * RingSeconds(calls[i], link));
      }
    }
    timeline.Finish();
    result.total.*figure = timeline.total();
    result.exposed.*figure = timeline.exposed();
    result.slowdown.*figure =
        (timeline.total() - timeline.exposed()) * rates[GpuRate::kContention].*figure;
  }
  return result;
}

}  // namespace strake
