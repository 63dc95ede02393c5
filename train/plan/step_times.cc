#include "train/plan/step_times.h"

#include <cstring>
#include <utility>

#include "core/base/status_macros.h"
#include "train/plan/exposed_communication.h"

namespace strake {
namespace {

void AddTo(const CallTimeRow& row, double times, CallTimeRow* sum) {
  sum->flops += times * row.flops;
  sum->bytes += times * row.bytes;
  sum->kernels += static_cast<int64_t>(times) * row.kernels;
  sum->seconds += times * row.seconds;
}

class StepSum {
 public:
  explicit StepSum(const StepRemedies& remedies) : remedies_(remedies) {}

  // Returns the seconds of all of the call's repetitions.
  Forecast Add(const OpCall& call, const std::vector<CallTimeRow>& rows) {
    const bool is_adamw = std::strcmp(call.op, "adamw") == 0;
    Forecast seconds;
    for (CallTimeRow row : rows) {
      if (remedies_.one_adamw_launch && is_adamw && !first_adamw_) row.kernels = 0;
      first_adamw_ = first_adamw_ && !is_adamw;
      AddTo(row, static_cast<double>(call.times), &RowOf(row.name));
      seconds += static_cast<double>(call.times) * row.seconds;
    }
    times_.ops[{call.op, call.pass}] += seconds;
    return seconds;
  }

  void AddRow(CallTimeRow row) { times_.rows.push_back(std::move(row)); }

  int64_t kernels() const {
    int64_t kernels = 0;
    for (const CallTimeRow& row : times_.rows) kernels += row.kernels;
    return kernels;
  }

  StepTimes Finish() && {
    times_.sum.name = "sum";
    for (const CallTimeRow& row : times_.rows) AddTo(row, 1, &times_.sum);
    return std::move(times_);
  }

 private:
  CallTimeRow& RowOf(const std::string& name) {
    for (CallTimeRow& row : times_.rows) {
      if (row.name == name) return row;
    }
    times_.rows.push_back({.name = name});
    return times_.rows.back();
  }

  const StepRemedies remedies_;
  bool first_adamw_ = true;
  StepTimes times_;
};

}  // namespace

absl::StatusOr<StepTimes> ForecastStep(const std::vector<OpCall>& calls, const GpuRates& rates,
                                       const StepRemedies& remedies) {
  StepSum sum(remedies);
  std::vector<Forecast> seconds;  // by call
  for (const OpCall& call : calls) {
    std::vector<CallTimeRow> rows;
    if (!call.is_collective()) {
      STRAKE_ASSIGN_OR_RETURN(rows, ForecastCall(call, rates, remedies));
    }
    seconds.push_back(call.is_collective() ? Forecast() : sum.Add(call, rows));
  }
  sum.AddRow({.name = "gaps between kernels",
              .seconds = static_cast<double>(sum.kernels()) * rates[GpuRate::kGap]});
  STRAKE_ASSIGN_OR_RETURN(const CommunicationTime communication,
                          TimeCommunication(calls, seconds, rates));
  if (communication.num_collectives > 0) {
    sum.AddRow({.name = "communication, exposed", .seconds = communication.exposed});
    sum.AddRow({.name = "kernels slowed by communication", .seconds = communication.slowdown});
  }
  return std::move(sum).Finish();
}

}  // namespace strake
