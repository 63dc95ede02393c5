#include "train/run/metrics_observer.h"

#include "core/base/status_macros.h"
#include "train/run/trainer_options.h"

namespace strake {

namespace {

constexpr char kLogName[] = "/metrics.jsonl";

}  // namespace

absl::Status MetricsObserver::OnPlan(const TrainPlan& plan) {
  return plan.holds_run ? absl::OkStatus()
                        : MetricsLog::CheckIsFree(plan.options.directory + kLogName);
}

absl::Status MetricsObserver::OnStart(const TrainStart& start) {
  STRAKE_ASSIGN_OR_RETURN(log_, MetricsLog::Open(start.directory + kLogName, start));
  for (const std::string& note : log_->notes()) {
    if (warn_ != nullptr) warn_(note);
  }
  return absl::OkStatus();
}

}  // namespace strake
